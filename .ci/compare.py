"""The Python half of compare: PyRadiomics and MIRP beside radnode, on the same voxels.

  compare.py values DIR ROI        every value beside both witnesses', with the files that lung1 wrote, and radnode, in DIR
  compare.py race DIR ROI ROUNDS   time beside PyRadiomics'
  compare.py whole IMAGE MASK      PyRadiomics as a command: resamples to 1 mm, prints its values
  compare.py engine IMAGE MASK     its values, then how long they take, in s by the clock and of CPU, for each line on stdin
  compare.py mirp IMAGE MASK       MIRP's values by tag; runs in its own environment
"""
import csv, gzip, io, json, os, re, resource, shutil, statistics, subprocess, sys, time

# What both compute: PyRadiomics' names and the IBSI's tags. PyRadiomics has five values more: firstorder TotalEnergy, shape
# Maximum2DDiameter of slice, column and row, glcm MCC.
SHARED = {
    "firstorder": dict(
        {"10Percentile": "stat_p10", "90Percentile": "stat_p90"},
        Energy="stat_energy", Minimum="stat_min", Maximum="stat_max", Mean="stat_mean", Median="stat_median",
        InterquartileRange="stat_iqr", Range="stat_range", MeanAbsoluteDeviation="stat_mad",
        RobustMeanAbsoluteDeviation="stat_rmad", RootMeanSquared="stat_rms", Skewness="stat_skew", Kurtosis="stat_kurt",
        Variance="stat_var", Entropy="ih_entropy", Uniformity="ih_uniformity"),
    "shape": dict(
        MeshVolume="morph_volume", VoxelVolume="morph_vol_approx", SurfaceArea="morph_area_mesh",
        SurfaceVolumeRatio="morph_av", Sphericity="morph_sphericity", Maximum3DDiameter="morph_diam",
        MajorAxisLength="morph_pca_maj_axis", MinorAxisLength="morph_pca_min_axis", LeastAxisLength="morph_pca_least_axis",
        Elongation="morph_pca_elongation", Flatness="morph_pca_flatness"),
    "glcm": dict(
        MaximumProbability="cm_joint_max", JointAverage="cm_joint_avg", SumSquares="cm_joint_var",
        JointEntropy="cm_joint_entr", DifferenceAverage="cm_diff_avg", DifferenceVariance="cm_diff_var",
        DifferenceEntropy="cm_diff_entr", SumAverage="cm_sum_avg", SumEntropy="cm_sum_entr", JointEnergy="cm_energy",
        Contrast="cm_contrast", Id="cm_inv_diff", Idn="cm_inv_diff_norm", Idm="cm_inv_diff_mom", Idmn="cm_inv_diff_mom_norm",
        InverseVariance="cm_inv_var", Correlation="cm_corr", Autocorrelation="cm_auto_corr", ClusterTendency="cm_clust_tend",
        ClusterShade="cm_clust_shade", ClusterProminence="cm_clust_prom", Imc1="cm_info_corr1", Imc2="cm_info_corr2"),
    "glrlm": dict(
        ShortRunEmphasis="rlm_sre", LongRunEmphasis="rlm_lre", LowGrayLevelRunEmphasis="rlm_lgre",
        HighGrayLevelRunEmphasis="rlm_hgre", ShortRunLowGrayLevelEmphasis="rlm_srlge",
        ShortRunHighGrayLevelEmphasis="rlm_srhge", LongRunLowGrayLevelEmphasis="rlm_lrlge",
        LongRunHighGrayLevelEmphasis="rlm_lrhge", GrayLevelNonUniformity="rlm_glnu",
        GrayLevelNonUniformityNormalized="rlm_glnu_norm", RunLengthNonUniformity="rlm_rlnu",
        RunLengthNonUniformityNormalized="rlm_rlnu_norm", RunPercentage="rlm_r_perc", GrayLevelVariance="rlm_gl_var",
        RunVariance="rlm_rl_var", RunEntropy="rlm_rl_entr"),
    "glszm": dict(
        SmallAreaEmphasis="szm_sze", LargeAreaEmphasis="szm_lze", LowGrayLevelZoneEmphasis="szm_lgze",
        HighGrayLevelZoneEmphasis="szm_hgze", SmallAreaLowGrayLevelEmphasis="szm_szlge",
        SmallAreaHighGrayLevelEmphasis="szm_szhge", LargeAreaLowGrayLevelEmphasis="szm_lzlge",
        LargeAreaHighGrayLevelEmphasis="szm_lzhge", GrayLevelNonUniformity="szm_glnu",
        GrayLevelNonUniformityNormalized="szm_glnu_norm", SizeZoneNonUniformity="szm_zsnu",
        SizeZoneNonUniformityNormalized="szm_zsnu_norm", ZonePercentage="szm_z_perc", GrayLevelVariance="szm_gl_var",
        ZoneVariance="szm_zs_var", ZoneEntropy="szm_zs_entr"),
    "ngtdm": dict(
        Coarseness="ngt_coarseness", Contrast="ngt_contrast", Busyness="ngt_busyness", Complexity="ngt_complexity",
        Strength="ngt_strength"),
    "gldm": dict(  # the IBSI's NGLDM with coarseness 0; both count the centre
        SmallDependenceEmphasis="ngl_lde", LargeDependenceEmphasis="ngl_hde", LowGrayLevelEmphasis="ngl_lgce",
        HighGrayLevelEmphasis="ngl_hgce", SmallDependenceLowGrayLevelEmphasis="ngl_ldlge",
        SmallDependenceHighGrayLevelEmphasis="ngl_ldhge", LargeDependenceLowGrayLevelEmphasis="ngl_hdlge",
        LargeDependenceHighGrayLevelEmphasis="ngl_hdhge", GrayLevelNonUniformity="ngl_glnu",
        DependenceNonUniformity="ngl_dcnu", DependenceNonUniformityNormalized="ngl_dcnu_norm",
        GrayLevelVariance="ngl_gl_var", DependenceVariance="ngl_dc_var", DependenceEntropy="ngl_dc_entr"),
}

FAMILIES = ["morph", "loc", "stat", "ih", "ivh", "cm", "rlm", "szm", "dzm", "ngt", "ngl"]
AGGREGATION = {"cm": "_3D_comb", "rlm": "_3D_comb", "szm": "_3D", "ngt": "_3D", "ngl": "_3D"}

# Why a witness may differ and by how much, by the start of the tag; the first that fits holds.
EXACT = (0, "")
MESH = (1e-3, "other triangles where diagonal voxels meet; radnode's are those that the IBSI's tables want")
PYRADIOMICS_DIFFERS = {
    "morph_pca_elongation": EXACT, "morph_pca_flatness": EXACT,  # ratios: the factor cancels
    "morph_pca": (1e-4, "population covariance; radnode has the sample's (n-1), as the digital phantom wants"),
    "morph_vol_approx": EXACT, "morph_diam": EXACT, "morph": MESH,
}
MIRP_DIFFERS = {
    "morph_moran_i": (1, "a sample of the pairs"), "morph_geary_c": (0.05, "a sample of the pairs"),
    "morph_comp": MESH, "morph_com": (1e-5, "a small difference of places, in float32"),
    "morph_vol_approx": EXACT, "morph_diam": EXACT, "morph_pca": EXACT, "morph": MESH,
}

RANGE, WIDTH = [-1000, 400], 25  # a multiple of the width: PyRadiomics' bins have their edges at multiples
WHOLE = {"spacing": [1, 1, 1], "image": "linear", "mask": "linear", "mask_threshold": 0.5, "round": True}


def run(*command):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout


def extractor(resample):
    import radiomics.featureextractor
    radiomics.setVerbosity(40)
    e = radiomics.featureextractor.RadiomicsFeatureExtractor(
        binWidth=WIDTH, resegmentRange=RANGE, interpolator="sitkLinear", gldm_a=0, symmetricalGLCM=True,
        weightingNorm="no_weighting",  # one matrix of all 13 directions, which is 3D_comb and PyRadiomics' faster way
        additionalInfo=False,  # no hash of the image
        **({"resampledPixelSpacing": WHOLE["spacing"]} if resample else {}))
    e.disableAllFeatures()
    e.enableFeaturesByName(**{c: list(names) for c, names in SHARED.items()})
    return e


def whole(image, mask):
    print(json.dumps({k: float(v) for k, v in extractor(True).execute(image, mask).items()}))


def engine(image, mask):
    import SimpleITK
    e, image, mask = extractor(False), SimpleITK.ReadImage(image), SimpleITK.ReadImage(mask)
    print(json.dumps({k: float(v) for k, v in e.execute(image, mask).items()}), flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        e.execute(image, mask)
        print(time.perf_counter() - start, time.process_time() - cpu, flush=True)


def mirp(image, mask):
    import mirp
    table = mirp.extract_features(
        image=image, mask=mask, image_modality="ct", resegmentation_intensity_range=[float(v) for v in RANGE],
        base_discretisation_method="fixed_bin_size", base_discretisation_bin_width=float(WIDTH), base_feature_families="all",
        glcm_spatial_method="3d_volume_merge", glrlm_spatial_method="3d_volume_merge", ivh_discretisation_method="none")[0]
    values = {}
    for column in table.columns:
        found = re.fullmatch(r"((?:morph|loc|ivh|stat|ih|cm|rlm|szm|dzm|ngt|ngl)_.*?)(_d1)?(_a0\.0)?(_3d)?(_v_mrg)?(_fbs_w[0-9.]+)?", column)
        if found and not re.match("ivh_.*(25|50|75)", column):  # fractions that the IBSI's tables do not have
            values[found[1] + ("_3D" if found[4] else "") + ("_comb" if found[5] else "")] = float(table[column].iloc[0])
    print(json.dumps(values))


def pyradiomics_by_tag(values):
    by_tag = {}
    for cls, names in SHARED.items():
        for name, tag in names.items():
            by_tag[tag + AGGREGATION.get(tag.split("_")[0], "")] = values[f"original_{cls}_{name}"]
    by_tag["stat_kurt"] -= 3  # the IBSI's is the excess
    return by_tag


def profile(path, families, tags=(), resample={}):
    """Writes a profile; JSON is YAML. Without the key features all values of the families are measured."""
    p = {"resample": resample, "resegment": {"range": RANGE}, "discretise": {"method": "fbs", "width": WIDTH},
         "ivh": {"method": "none"}, "aggregate": ["3D_comb"], "families": families}
    with open(path, "w") as f:
        json.dump({**p, "features": list(tags)} if tags else p, f)
    return path


def radnode(image, mask, profile):
    return ["./radnode", "extract", "--image", image, "--mask", mask, "--profile", profile]


def compare(witness, expected, got, differs, tolerance):
    """Prints the values of both; tells whether each agrees or differs for a known reason."""
    agree, known, wrong = 0, 0, 0
    print(f"\n{'tag':28} {witness:>20} {'radnode':>20}")
    for tag, theirs in expected.items():
        row = got.get(tag)
        if row is None or row["value"] == "":
            wrong += 1
            print(f"{tag:28} {theirs:20.12g} {'':20}  MISSING {row['note'] if row else ''}")
            continue
        ours = float(row["value"])
        off = abs(ours - theirs) / max(abs(theirs), abs(ours), 1e-300)
        bound, remark = next((d for start, d in differs.items() if tag.startswith(start)), EXACT)
        if off <= tolerance:
            agree, remark = agree + 1, ""
        elif off <= bound:
            known += 1
        else:
            wrong, remark = wrong + 1, "DIFFERS"
        print(f"{tag:28} {theirs:20.12g} {ours:20.12g} {off:8.1e}  {remark}".rstrip())
    print(f"{witness}: of {len(expected)} values {agree} agree within {tolerance:g}, {known} differ for the reason given, "
          f"{wrong} without one")
    return wrong == 0


def values(folder, roi):
    os.chdir(folder)
    files = [f"{roi}-1mm.nii", f"{roi}-1mm-mask.nii"]
    rows = list(csv.DictReader(io.StringIO(run(*radnode(*files, profile("values.yaml", FAMILIES))))))
    got = {row["feature"]: row for row in rows}
    theirs = pyradiomics_by_tag(json.loads(run(*HERE, "engine", *files)))
    print(f"\n{roi}, {theirs['morph_vol_approx']:.0f} voxels at 1 mm: {len(rows)} values of radnode")
    same = compare("PyRadiomics", theirs, got, PYRADIOMICS_DIFFERS, 1e-6)
    # MIRP keeps intensities and vertices in float32.
    theirs = json.loads(run(os.environ["MIRP_PYTHON"], *HERE[1:], "mirp", *files).splitlines()[-1])  # below its log
    return compare("MIRP", theirs, got, MIRP_DIFFERS, 1e-6) and same


def race(folder, roi, rounds):
    os.chdir(folder)
    shared = [tag for names in SHARED.values() for tag in names.values()]
    of_shared = sorted({tag.split("_")[0] for tag in shared})
    files = [f"{roi}-1mm.nii", f"{roi}-1mm-mask.nii"]

    commands = {"PyRadiomics": [*HERE, "engine", *files]}
    for name, of, tags in ("radnode, shared", of_shared, shared), ("radnode, all", FAMILIES, ()):
        commands[name] = ["./lung1", "time", *files, profile(f"{name[9:]}.yaml", of, tags)]
    children = {name: subprocess.Popen(c, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name, c in commands.items()}
    children["PyRadiomics"].stdout.readline()  # its values

    def engine_seconds(name):
        children[name].stdin.write("\n")
        children[name].stdin.flush()
        return [float(s) for s in children[name].stdout.readline().split()]

    in_turns(f"{roi}, engine alone: the voxels in memory, no interpolation", children, engine_seconds, rounds)
    for child in children.values():
        child.communicate()

    for ending in "", ".gz":
        files = ["ct.nii" + ending, f"{roi}.nii{ending}"]
        for f in files:
            if ending and not os.path.exists(f):
                with open(f[:-3], "rb") as plain, gzip.open(f, "wb", 6) as zipped:
                    shutil.copyfileobj(plain, zipped)
        commands = {"PyRadiomics": [*HERE, "whole", *files]}
        for name, of, tags in ("radnode, shared", of_shared, shared), ("radnode, all", FAMILIES, ()):
            commands[name] = radnode(*files, profile(f"{name[9:]}-1mm.yaml", of, tags, WHOLE))

        def command_seconds(name):
            start, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            run(*commands[name])
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return time.perf_counter() - start, after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime

        in_turns(f"{roi}, whole command: from the CT in .nii{ending}", commands, command_seconds, rounds)


def in_turns(title, names, seconds, rounds):
    """Times each in turn, so that a machine whose speed drifts treats them alike. seconds gives those of the clock and of the
    CPU, which differ where the core was busy with other things; ratios are of the same round."""
    took = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            took[name].append(seconds(name))
    print(f"\n{title}; medians of {rounds}")
    for name, ours in took.items():
        line = f"  {name:18}"
        for k, unit in enumerate(["s", "s of CPU"]):
            ratios = [a[k] / b[k] for a, b in zip(took["PyRadiomics"], ours)]
            line += f"{statistics.median(t[k] for t in ours):9.3f} {unit}"
            if name != "PyRadiomics":
                line += f", {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) times as fast;"
        print(line.rstrip(";"), flush=True)


HERE = [sys.executable, os.path.abspath(__file__)]

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "values":
        sys.exit(not values(*arguments))
    if command == "race":
        race(*arguments[:2], int(arguments[2]))
    else:
        {"whole": whole, "engine": engine, "mirp": mirp}[command](*arguments)
