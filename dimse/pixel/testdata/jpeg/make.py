"""Writes the streams beside it, each by the program its name begins with, and for lossy ones the samples dcmdjpeg makes of them.

Needs dcmtk and libgdcm-tools of Debian 12, and pydicom, numpy, pillow and imagecodecs of PyPI. README.md has the versions.
"""
import io, pathlib, subprocess, tempfile
import imagecodecs, numpy, pydicom
from PIL import Image
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

here = pathlib.Path(__file__).parent
temp = pathlib.Path(tempfile.mkdtemp())
ROWS, COLUMNS = 23, 37


def samples(bits):
    """The image of every stream; pattern in jpeg_test.go is the same."""
    y, x = numpy.mgrid[:ROWS, :COLUMNS]
    return (y * x * x + 131 * y + 977 * x) % 2**bits


def dataset(bits, signed=False):
    d = pydicom.Dataset()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(None, ["radnode"])
    d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = ROWS, COLUMNS, 1, "MONOCHROME2"
    d.BitsAllocated = 8 if bits == 8 else 16
    d.BitsStored, d.HighBit, d.PixelRepresentation = bits, bits - 1, int(signed)
    return d


def native(bits, signed=False):
    d, a = dataset(bits, signed), samples(bits)
    if signed:  # two's complement in 16 bits
        a = a - 2**bits * (a >= 2 ** (bits - 1))
    raw = (a & 255).astype("u1").tobytes() if bits == 8 else (a & 65535).astype("<u2").tobytes()
    d.PixelData = raw + b"\0" * (len(raw) % 2)
    d["PixelData"].VR = "OB" if bits == 8 else "OW"
    name = temp / "native.dcm"
    d.save_as(name, enforce_file_format=True)
    return name


def peer(name, bits, *command, signed=False, lossy=False):
    packed = temp / "packed.dcm"
    subprocess.run([*command, native(bits, signed), packed], check=True)
    d = pydicom.dcmread(packed)
    keep(name, next(generate_frames(d.PixelData, number_of_frames=1)), packed if lossy else None)


def keep(name, stream, packed=None):
    assert len(stream) < 3072, (name, len(stream))
    (here / f"{name}.jpg").write_bytes(stream)
    if packed is not None:
        subprocess.run(["dcmdjpeg", packed, temp / "out.dcm"], check=True)
        d = pydicom.dcmread(temp / "out.dcm")
        (here / f"{name}.raw").write_bytes(d.PixelData[: ROWS * COLUMNS * d.BitsAllocated // 8])


for sv in range(1, 8):
    peer(f"dcmcjpeg-lossless-sv{sv}-16", 16, "dcmcjpeg", "+el", "+sv", str(sv))
peer("dcmcjpeg-lossless-sv6-8", 8, "dcmcjpeg", "+el", "+sv", "6")
peer("dcmcjpeg-lossless-sv1-signed12", 12, "dcmcjpeg", "+e1", signed=True)
peer("gdcmconv-lossless-sv1-signed12", 12, "gdcmconv", "--jpeg", signed=True)
peer("gdcmconv-lossless-sv1-8", 8, "gdcmconv", "--jpeg")
peer("dcmcjpeg-baseline-8", 8, "dcmcjpeg", "+eb", "+q", "60", lossy=True)
peer("dcmcjpeg-extended-12", 12, "dcmcjpeg", "+ee", "+bt", "+q", "20", lossy=True)
peer("dcmcjpeg-spectral-12", 12, "dcmcjpeg", "+es", "+bt", "+q", "20", lossy=True)
peer("dcmcjpeg-progressive-12", 12, "dcmcjpeg", "+ep", "+bt", "+q", "20", lossy=True)
for bits in range(2, 17):
    a = samples(bits).astype("u1" if bits <= 8 else "u2")
    sv = 1 + bits % 7
    stream = imagecodecs.jpeg8_encode(a, bitspersample=bits, lossless=True, predictor=sv)
    assert (imagecodecs.jpeg8_decode(stream) == a).all()
    keep(f"turbo-lossless-sv{sv}-{bits}", stream)
for name, progressive in ("baseline", False), ("progressive", True):
    b = io.BytesIO()
    Image.fromarray(samples(8).astype("u1")).save(b, "JPEG", quality=50, progressive=progressive, restart_marker_blocks=3)
    d = dataset(8)
    d.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    d.PixelData = encapsulate([b.getvalue()])
    d["PixelData"].is_undefined_length = True
    d.save_as(temp / "packed.dcm", enforce_file_format=True)
    keep(f"pillow-{name}-restarts-8", b.getvalue(), temp / "packed.dcm")
