package words

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
)

// samples are what may stand for a verb of a table, and what it reads in Italian. Each is used once in a text.
var samples = map[byte][][2]string{
	'n': {{"1.5", "1,5"}, {"22.25", "22,25"}, {"333.125", "333,125"}, {"44.5", "44,5"}, {"5.75", "5,75"}, {"0.625", "0,625"}},
	's': {{"GTV 1, left", "GTV 1, left"}, {"ADC\\MIP", "ADC\\MIP"}, {"Bq/ml, g/ml", "Bq/ml, g/ml"}, {"T2 2.5 mm", "T2 2.5 mm"}},
	'w': {{"1.2.840.10008.1", "1.2.840.10008.1"}, {"HU", "HU"}, {"1.2.840.10008.3", "1.2.840.10008.3"}, {"Bq/ml", "Bq/ml"}},
	'm': {{"1.5 mm", "1,5 mm"}, {"22.25", "22,25"}},
	'q': {{"a 1.5 \"b\"", `"a 1.5 \"b\""`}, {"", `""`}},
	'a': {{"(0028,0030)", "(0028,0030)"}},
	'l': {{"Echo Time (0018,0081) and Flip Angle (0018,1314)", "Echo Time (0018,0081) e Flip Angle (0018,1314)"}},
	't': {
		{"the ROI touches the border of the image", "la ROI tocca il bordo dell'immagine"},
		{"all intensities are the same", "tutte le intensità sono uguali"},
		{"the intensities are too large to compute it", "le intensità sono troppo grandi per calcolarlo"},
		{"the mean intensity is 0", "l'intensità media è 0"},
	},
}

// contexts are parts that a sample of their kind cannot stand for.
var contexts = map[string]map[int][2]string{
	"Not computed: %s %s.": {0: {"There is no image to measure on.", "Non c'è alcuna immagine su cui misurare."}},
	"%s: the images are lossy, with other values than those of the scanner": {0: {"Lossy Image Compression (0028,2110) is 01", "Lossy Image Compression (0028,2110) è 01"}},
}

// example fills a line of the table in by the plain rule: the arguments for the English format, and both texts.
func example(t *testing.T, english, said string) (args []any, in, want string) {
	t.Helper()
	verbs := regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`).FindAllString(strings.ReplaceAll(english, "%%", ""), -1)
	args, read := make([]any, len(verbs)), make([]string, len(verbs))
	next, integer := map[byte]int{}, 7
	used := 0
	want = regexp.MustCompile(`%(?:\[([0-9])\])?([a-z%])`).ReplaceAllStringFunc(said, func(v string) string {
		if v == "%%" {
			return "%"
		}
		i, k := used, v[len(v)-1]
		if len(v) > 2 {
			i = int(v[2] - '1')
		}
		used++
		verb := verbs[i]
		sample := func() [2]string {
			s := samples[k][next[k]%len(samples[k])]
			next[k]++
			if c, ok := contexts[english][i]; ok {
				return c
			}
			return s
		}
		switch letter := verb[len(verb)-1]; {
		case k == 'd' && letter == 'd':
			integer += 12340
			args[i], read[i] = integer, fmt.Sprint(integer)
		case k == 'n' && strings.ContainsRune("gfv", rune(letter)):
			var x float64
			fmt.Sscan(sample()[0], &x)
			args[i], read[i] = x, strings.Replace(fmt.Sprintf(verb, x), ".", ",", 1)
		case k == 'q' && letter == 'q', strings.IndexByte("nmswalt", k) >= 0 && (letter == 's' || letter == 'v'):
			s := sample()
			args[i], read[i] = s[0], s[1]
		default:
			t.Fatalf("%q: %s cannot be %s of %q", english, verb, v, said)
		}
		return read[i]
	})
	if slices.Contains(args, nil) || used != len(verbs) {
		t.Fatalf("%q has %d parts, %q has %d", english, len(verbs), said, used)
	}
	return args, fmt.Sprintf(english, args...), want
}

// Every line of the table: the parts of the English format are there once, in a verb that fits; Text and Sprintf lead from
// the English text to the Italian one with the parts as they are, in whatever order.
func TestTable(t *testing.T) {
	for _, line := range italian {
		english, said := line[0], line[1]
		if _, err := newPhrase(english, said); err != nil {
			t.Error(err)
			continue
		}
		args, in, want := example(t, english, said)
		if got := Italian.Sprintf(english, args...); got != want {
			t.Errorf("Sprintf %q:\n got %s\nwant %s", english, got, want)
		}
		p := Italian.dictionary().formats[english]
		if p.loose && p.letters < hardly { // known within others only
			r := Italian.dictionary().reader(in)
			if got, _ := r.part(in, 1); got != want {
				t.Errorf("within a text %q:\n got %s\nwant %s", in, got, want)
			}
			continue
		}
		if got := Italian.Text(in); got != want {
			t.Errorf("Text %q:\n got %s\nwant %s", in, got, want)
		}
	}
}

// Figures, tags and the attributes before them are the same on both sides of the table.
func TestTableKeepsWhatIsNoWord(t *testing.T) {
	figures := regexp.MustCompile(`[0-9]+`)
	tags := regexp.MustCompile(`\([0-9A-Fx]{4},[0-9A-Fx]{4}\)`)
	named := regexp.MustCompile(`([A-Za-z]+) \([0-9A-Fx]{4},[0-9A-Fx]{4}\)`)
	upper := regexp.MustCompile(`\b[A-Z][A-Z0-9_]{2,}\b`)
	of := func(p *regexp.Regexp, s string) []string {
		s = regexp.MustCompile(`%(\[[0-9]\])?[-+#0-9.]*[a-z]`).ReplaceAllString(s, "%")
		all := p.FindAllString(s, -1)
		slices.Sort(all)
		return all
	}
	for _, line := range italian {
		english, said := line[0], line[1]
		for _, p := range []*regexp.Regexp{figures, tags, named, upper} {
			a, b := of(p, english), of(p, said)
			if p == named { // "factor (7053,xx00)" is no attribute
				plain := func(s string) bool { return strings.ToLower(s[:1]) == s[:1] || strings.Contains(s, "xx") }
				a, b = slices.DeleteFunc(a, plain), slices.DeleteFunc(b, plain)
			}
			if !slices.Equal(a, b) {
				t.Errorf("%q has %q, %q has %q", english, a, said, b)
			}
		}
	}
}

// English words that no attribute has; and attributes with their tags, which may have such words.
var (
	stopWords  = regexp.MustCompile(`\b(?i:the|is|are|of|and|has|have|with|not|which|that|from|by|its|their|for)\b`)
	namesOfTag = regexp.MustCompile(`[A-Z][\w'-]*(?: (?:of|to|per|by|and|\(?[A-Z][\w'-]*\)?))* \([0-9A-Fx]{4},[0-9A-Fx]{4}\)`)
)

// No line of the table is half English.
func TestTableIsItalian(t *testing.T) {
	for _, line := range italian {
		if left := stopWords.FindString(namesOfTag.ReplaceAllString(line[1], "")); left != "" {
			t.Errorf("%q has the English %q", line[1], left)
		}
	}
}

// What the packages say of their choices leaves no English either.
func TestDescriptions(t *testing.T) {
	said := map[string]string{}
	for _, a := range []features.Aggregation{
		features.Agg2D, features.Agg25D, features.Agg3D, features.Agg2DAvg, features.Agg2DComb, features.Agg25DAvg, features.Agg25DComb, features.Agg3DAvg, features.Agg3DComb,
	} {
		_, words := a.Describe()
		said[words] = Italian.Sprintf("Texture matrices: %s (IBSI %s)", words, "KOBO")
	}
	for _, rule := range []voxel.Rule{{}, {Boundary: "inside"}, {Boundary: "outside"}, {Voxel: "coverage", Coverage: 0.25}} {
		s := roi.Describe(rule, roi.Region{})
		said[s] = Italian.Text("region: " + s)
	}
	for english, s := range said {
		if left := stopWords.FindString(s); left != "" || strings.Contains(s, "0.25") {
			t.Errorf("%q became %q, with the English %q", english, s, left)
		}
	}
	if len(said) != 13 {
		t.Errorf("%d texts", len(said))
	}
}

// What is made of several texts, as the sources do it.
func TestText(t *testing.T) {
	for _, c := range []struct{ english, italian string }{
		{
			"SUV by body weight: weight 70.5 kg, dose 350 MBq, injected at 10:00:00, decay to 11:00:00 to 11:20:00 (Acquisition Time (0008,0032) and Actual Frame Duration (0018,1242), Decay Correction (0054,1102) NONE), half life 6586.2 s, factors 1.5e-05 to 2.5e-05",
			"SUV normalizzato per peso corporeo: peso 70,5 kg, attività 350 MBq, somministrazione alle ore 10:00:00, decadimento fino alle ore 11:00:00 - 11:20:00 (Acquisition Time (0008,0032) e Actual Frame Duration (0018,1242), Decay Correction (0054,1102) NONE), tempo di dimezzamento 6586,2 s, fattori da 1,5e-05 a 2,5e-05",
		},
		{
			"SUV by ideal body weight (Sugawara): height 1.8 m, sex M, weight 70 kg, from SUV by lean body mass (James, 128), factor 1.2",
			"SUV normalizzato per peso corporeo ideale (Sugawara): altezza 1,8 m, sesso M, peso 70 kg, da SUV normalizzato per massa magra (James, 128), fattore 1,2",
		},
		{
			"the values stay in Bq/ml and do not become SUV by body weight: PatientWeight (0010,1030) is absent or 0; enter the weight in kg at the scanner, or correct Patient's Weight (0010,1030) [pet.no-weight]",
			"i valori restano in Bq/ml e non diventano SUV normalizzato per peso corporeo: PatientWeight (0010,1030) è assente o 0; inserire il peso in kg allo scanner, oppure correggere Patient's Weight (0010,1030) [pet.no-weight]",
		},
		{
			"Lossy Image Compression (0028,2110) is 01, by ISO_10918_1, ISO_15444, 5.5 to 1 up to 8 to 1: the images are lossy, with other values than those of the scanner",
			"Lossy Image Compression (0028,2110) è 01, con ISO_10918_1, ISO_15444, rapporto da 5,5:1 a 8:1: le immagini sono compresse con perdita, con valori diversi da quelli dello scanner",
		},
		{
			"Lesion 1: ROI 5: none of its 3 contours lies on a slice of the images; 3 of 3 contours are not flat and are taken for flat; something else",
			"Lesion 1: ROI 5: nessuno dei suoi 3 contorni è su uno strato delle immagini; contorni non piani, trattati come piani: 3 di 3; something else",
		},
		{
			"z-score by the mean 12.5 and standard deviation 3.25 of 12,345 voxels of the whole image, times 100",
			"normalizzazione z-score: media 12,5 e deviazione standard 3,25 di 12.345 voxel dell'immagine intera, moltiplicata per 100",
		},
		{
			"range by the percentiles 5 and 95, 1.5 and 2, of 1,012,345 voxels of the reference region",
			"normalizzazione per intervallo: percentili 5 e 95 (1,5 e 2) di 1.012.345 voxel della regione di riferimento",
		},
		{
			"stack 1 of 4 in the series, the one that the contours name: Echo Time (0018,0081) and Flip Angle (0018,1314) 1.5 and 3, of 1.5 and 3, 2.5 and 3, and others",
			"pila di strati 1 di 4 nella serie, quella indicata dai contorni: Echo Time (0018,0081) e Flip Angle (0018,1314), valore 1,5 e 3, tra 1,5 e 3, 2,5 e 3, e altre",
		},
		{
			"stack 2 of 3 in the series, the one that the contours name: b-value (0019,xx0C) of SIEMENS MR HEADER 800, of 0, 800, 1500",
			"pila di strati 2 di 3 nella serie, quella indicata dai contorni: b-value (0019,xx0C) of SIEMENS MR HEADER, valore 800, tra 0, 800, 1500",
		},
		{
			"frame 3: image 1.2.3 is left out: Image Type (0008,0008) is DERIVED\\MIP, a projection or rendering",
			"frame 3: immagine 1.2.3, esclusa: Image Type (0008,0008) è DERIVED\\MIP, una proiezione o un rendering",
		},
		{"2 images are left out: Pixel Spacing (0028,0030) is another one", "2 immagini, escluse: Pixel Spacing (0028,0030) è diverso"},
		{
			"3 images with the places and the values of others are left out, 1.2.3.4",
			"3 immagini con le posizioni e i valori di altre, escluse: 1.2.3.4",
		},
		{"Units (0054,1001) is PROPCNTS", "Units (0054,1001) è PROPCNTS"},
		{"Rows (0028,0010) is \"\"", "Rows (0028,0010) è \"\""},
		{
			"stack 2 of 2 in the series, the one that the contours name: Trigger Time (0018,1060), (0020,9153) 500 to 509 ms, of 0 to 9.5 ms, 500 to 509 ms",
			"pila di strati 2 di 2 nella serie, quella indicata dai contorni: Trigger Time (0018,1060), (0020,9153), valore 500 - 509 ms, tra 0 - 9,5 ms, 500 - 509 ms",
		},
		{
			"frame 4: lies in the place of image 1.2.3, ImagePositionPatient (0020,0032), and Time Slot Vector (0054,0070) is absent, not 65535",
			"frame 4: è nella posizione dell'immagine 1.2.3, ImagePositionPatient (0020,0032), e Time Slot Vector (0054,0070) è assente, non 65535",
		},
		{
			"PixelSpacing (0028,0030) cannot be read: (0028,0030) PixelSpacing: value 1 is no decimal number: character 1 is 'x'",
			"PixelSpacing (0028,0030) non può essere letto: (0028,0030) PixelSpacing: il valore 1 non è un numero decimale: il carattere 1 è 'x'",
		},
		{
			"(7FE0,0010) PixelData: has 10 bytes, but 1 frames of 2 × 3 pixels of 16 bits need more: it is truncated or its header is wrong; send it again; send the image again from its source [image.pixels]",
			"(7FE0,0010) PixelData: ha 10 byte, ma 1 frame di 2 × 3 pixel di 16 bit ne richiedono di più: è troncato o la sua intestazione è errata; inviarlo di nuovo; inviare di nuovo l'immagine dalla sorgente [image.pixels]",
		},
		{"frame 2: PixelSpacing (0028,0030) has 3 values and needs 2", "frame 2: PixelSpacing (0028,0030) ha 3 valori e ne servono 2"},
		{"(0062,0002)[3].(0062,0004) Segment Number is absent", "(0062,0002)[3].(0062,0004) Segment Number è assente"},
		{
			"3 of 5 contours lie between slices and are taken for the nearest one",
			"contorni posti tra strati, attribuiti al più vicino: 3 di 5",
		},
		{
			"Pixel Padding Value (0028,0120) is -2000 to -1500, Pixel Padding Range Limit (0028,0121): stored values outside of what was scanned, kept as they are",
			"Pixel Padding Value (0028,0120) è da -2000 a -1500, Pixel Padding Range Limit (0028,0121): valori memorizzati fuori da ciò che è stato acquisito, lasciati come sono",
		},
		{
			"GTV: not measured, drawn on another series, 1.2.3, 1.2.4; send the series that the region was drawn on [contours.series]",
			"GTV: non misurata, disegnata su un'altra serie, 1.2.3, 1.2.4; inviare la serie su cui la regione è stata disegnata [contours.series]",
		},
		{
			"the region, with the images and the regions before it, needs about 1.5 GiB, the limit is 512.0 MiB",
			"memoria necessaria per la regione, con le immagini e le regioni che la precedono: circa 1,5 GiB; il limite è 512,0 MiB",
		},
		{
			"5 of 20 slices are missing by their ImagePositionPatient (0020,0032), the first at (1.5, -2, 3.25) mm; the slices that are here are 2.5 mm apart",
			"strati mancanti secondo ImagePositionPatient (0020,0032): 5 di 20, il primo in (1,5; -2; 3,25) mm; la distanza tra gli strati presenti è 2,5 mm",
		},
		{
			"the series holds 2 stacks that differ in their grid, and nothing says which one to measure: image 1.2: Rows (0028,0010) is 5, and 6 in image 1.3; send the slices of one reconstruction as one series, and the others as another [geometry.size]",
			"la serie contiene 2 pile di strati con griglie diverse, e nulla indica quale misurare: immagine 1.2: Rows (0028,0010) è 5, e 6 nell'immagine 1.3; inviare gli strati di una ricostruzione in una serie, e gli altri in un'altra [geometry.size]",
		},
		{
			"Real World Value Mapping Sequence (0040,9096) leads to the values, in Bq/ml; it is the first of 2 (Bq/ml, g/ml)",
			"i valori sono ottenuti con Real World Value Mapping Sequence (0040,9096), in Bq/ml; è la prima di 2 (Bq/ml, g/ml)",
		},
		{
			"A voxel belongs to the region if its centre lies inside the contours of the plane nearest to it (even-odd rule, contours of one plane combined by exclusive or; left and upper outlines inside, right and lower ones outside). A plane reaches half way to its neighbours, and half the usual distance where there is none. No interpolation between planes.",
			"Un voxel appartiene alla regione se il suo centro è dentro i contorni del piano più vicino (regola pari-dispari, contorni dello stesso piano combinati con or esclusivo; bordi sinistro e superiore inclusi, destro e inferiore esclusi). Un piano arriva a metà strada dai piani vicini, e a metà della distanza abituale dove non ce ne sono. Nessuna interpolazione tra i piani.",
		},
		{
			"Not computable (all intensities are the same): Moran's I index, Geary's C measure",
			"Non calcolabili (tutte le intensità sono uguali): Moran's I index, Geary's C measure",
		},
		{
			"ImageOrientationPatient (0020,0037) is [1 0 0 0 0.5 0.25], which are no unit vectors",
			"ImageOrientationPatient (0020,0037) è [1 0 0 0 0,5 0,25], che non sono versori",
		},
		{
			"features: the image has no finite value at [1.5 -2.0 3.2] mm: leave normalise out, or send the image again from its source",
			"features: l'immagine non ha un valore finito in [1,5 -2,0 3,2] mm: omettere normalise, oppure inviare di nuovo l'immagine dalla sorgente",
		},
	} {
		if got := Italian.Text(c.english); got != c.italian {
			t.Errorf("%s\n got %s\nwant %s", c.english, got, c.italian)
		}
		for _, l := range []Language{"", English, "fr"} {
			if got := l.Text(c.english); got != c.english {
				t.Errorf("%q says %s", l, got)
			}
		}
	}
}

// Of the formats that a text may have come from, the one with most words of its own counts.
func TestLongestLiteral(t *testing.T) {
	for _, c := range []struct{ english, italian string }{
		{"Rescale Type (0028,1054) is XY", "Rescale Type (0028,1054) è XY"},
		{"Rescale Type (0028,1054) is XY, which is no unit", "Rescale Type (0028,1054) è XY, che non è un'unità"},
		{"Rescale Type (0028,1054) is XY: the values are not Hounsfield units", "Rescale Type (0028,1054) è XY: i valori non sono unità Hounsfield"},
		{"3 values by profile p", "3 valori con il profilo p"},
		{"3 values by profile p, 2 not computable", "3 valori con il profilo p, 2 non calcolabili"},
		{"DecayCorrection (0054,1102) is NONE, and CorrectedImage (0028,0051) says DECY", "DecayCorrection (0054,1102) è NONE, e CorrectedImage (0028,0051) contiene DECY"},
	} {
		if got := Italian.Text(c.english); got != c.italian {
			t.Errorf("%s\n got %s\nwant %s", c.english, got, c.italian)
		}
	}
}

// Text leaves alone what radnode did not say.
func TestUnknown(t *testing.T) {
	for _, s := range []string{
		"", " ", "GTV", "GTV 1.5", "1.5", "1.2.840.10008", "12,345", "Tom, and others", "left, by hand", "seen by Dr. A of B", "a to b",
		"tumour: left lung", "Hello, world; nothing: known here", "sex and age", "liver: range", "lesion; slices", "this is absent", "%d values",
		"the ROI touches the border of the image.", " the ROI touches the border of the image", "x values", "page one of 2", "%", "[geometry.gap]", " [geometry.gap]",
		"image a: b", "[x.y]", "; ", ": ", ", ",
	} {
		if got := Italian.Text(s); got != s {
			t.Errorf("%q became %q", s, got)
		}
	}
	if got, want := Italian.Sprintf("no such format %s %.1f", "x", 1.5), "no such format x 1.5"; got != want {
		t.Errorf("Sprintf gave %q, want %q", got, want)
	}
	format := "%d values" // vet would see the fault
	if got, want := Italian.Sprintf(format, []any{}...), "%!d(MISSING) values"; got != want {
		t.Errorf("Sprintf gave %q, want %q", got, want)
	}
}

func TestParse(t *testing.T) {
	for s, want := range map[string]Language{"": English, "en": English, "it": Italian} {
		if got, err := Parse(s); err != nil || got != want {
			t.Errorf("Parse(%q) is %q, %v", s, got, err)
		}
	}
	for _, s := range []string{"IT", "fr", "it-IT", " "} {
		if l, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) is %q", s, l)
		}
	}
}

// In English a refusal reads as package refusal writes it, and in Italian none of its own words is left.
func TestRefusal(t *testing.T) {
	said := func(english string) string {
		i := slices.IndexFunc(italian, func(line [2]string) bool { return line[0] == english })
		if i < 0 {
			t.Fatalf("%q is not in the table", english)
		}
		return italian[i][1]
	}
	for _, reason := range refusal.Reasons {
		r := refusal.New(reason.Code, "1.2.3", "Number of Frames (0028,0008) is %q", "x")
		want := reason.Sentence + " " + r.Error() + "."
		for _, l := range []Language{"", English} {
			if got := l.Refusal(r); got != want {
				t.Errorf("%q: %s\nwant %s", l, got, want)
			}
			if got := l.Detail(r); got != r.Error() {
				t.Errorf("%q: %s\nwant %s", l, got, r.Error())
			}
		}
		want = said(reason.Sentence) + ` immagine 1.2.3: Number of Frames (0028,0008) è "x"; ` + said(reason.Remedy) + " [" + string(reason.Code) + "]."
		if got := Italian.Refusal(r); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		// The same as a finished text.
		if got := Italian.Text(r.Error()); got != Italian.Detail(r) {
			t.Errorf("%s\nwant %s", got, Italian.Detail(r))
		}
	}
	r := &refusal.Refusal{Code: refusal.ContoursSeries, Text: "GTV 1: drawn on another series, 1.2.3", Remedy: "send an RT structure set"}
	want := "GTV 1: disegnata su un'altra serie, 1.2.3; inviare un set di strutture RT [contours.series]"
	if got := Italian.Detail(r); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// Long and repeating texts take no more than a moment, and what is too long stays as it is.
func TestLongTexts(t *testing.T) {
	repeat := func(s string, n int) string { return strings.Repeat(s, n/len(s)) }
	for _, n := range []int{longest - 64, 1 << 20} {
		for _, s := range []string{
			repeat("x", n), repeat("; ", n), repeat(": ", n), repeat("a, b; c: ", n), repeat("frame 1: ", n), repeat("SUV by a: b, c; ", n),
			repeat("by of to in is, and ", n), repeat("image 1.2: ", n) + " [geometry.gap]", repeat(" and 5 to 1, by x", n), repeat("((((1, 2), ", n),
			repeat(" voxels of ", n), repeat("is absent; ", n), repeat(" [geometry.gap]", n), "the mean " + repeat("1.5", n), repeat("Echo Time (0018,0081) and ", n),
			"stack 1 of 2 in the series, the one that the contours name: " + repeat("Echo Time (0018,0081) and ", n),
		} {
			start := time.Now()
			got := Italian.Text(s)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("%d bytes of %.20q took %v", len(s), s, took)
			}
			if len(s) > longest && got != s {
				t.Errorf("%d bytes of %.20q were changed", len(s), s)
			}
		}
	}
	names := make([]string, 400)
	for i := range names {
		names[i] = fmt.Sprintf("Normalised dependence count non-uniformity %d", i)
	}
	list := strings.Join(names, ", ")
	if got, want := Italian.Text("Not computable (all intensities are the same): "+list), "Non calcolabili (tutte le intensità sono uguali): "+list; got != want {
		t.Errorf("a list of 400 names: %.100s", got)
	}
}

func FuzzText(f *testing.F) {
	for _, line := range italian {
		english, said := line[0], line[1]
		p, err := newPhrase(english, said)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(strings.Join(p.literals, "1"))
	}
	f.Add("GTV: not measured, image 1.2: frame 3: Rows (0028,0010) is absent or not positive; send an RT structure set [geometry.size]")
	uid := regexp.MustCompile(`[0-9]+(\.[0-9]+){2,}`)
	f.Fuzz(func(t *testing.T, s string) {
		start := time.Now()
		got := Italian.Text(s)
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("%d bytes took %v", len(s), took)
		}
		if len(got) > 4*len(s)+64 {
			t.Fatalf("%d bytes became %d", len(s), len(got))
		}
		for _, u := range uid.FindAllString(s, -1) {
			if !strings.Contains(got, u) {
				t.Fatalf("%q became %q: %s is lost", s, got, u)
			}
		}
		if got != Italian.Text(s) {
			t.Fatalf("%q is said in two ways", s)
		}
		if English.Text(s) != s || English.Sprintf("%s", s) != s {
			t.Fatalf("%q is changed in English", s)
		}
	})
}

func BenchmarkText(b *testing.B) {
	const note = "ImagePositionPatient (0020,0032) lies 1.250 mm from where equal spacing of 2.5 mm would put slice 4 of 80, more than 0.1 mm"
	for b.Loop() {
		Italian.Text(note)
	}
}
