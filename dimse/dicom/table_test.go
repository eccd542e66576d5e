package dicom

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/grailbio/go-dicom/dicomuid"
	"github.com/suyashkumar/dicom/pkg/tag"
	"github.com/suyashkumar/dicom/pkg/uid"
	"pgregory.net/rapid"
)

func TestUIDFrom(t *testing.T) {
	seen := make(map[string][]string)
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"ab", ""}, {"b", "a"}} {
		u := UIDFrom(parts...)
		if before, ok := seen[u]; ok {
			t.Errorf("%q and %q have the same UID", before, parts)
		}
		seen[u] = parts
		if u != UIDFrom(parts...) || !ValidUID(u) || !strings.HasPrefix(u, "2.25.") {
			t.Errorf("%q: %s", parts, u)
		}
	}
	if UIDFrom("radnode") != ImplementationClassUID {
		t.Errorf("ImplementationClassUID is %s, want %s", ImplementationClassUID, UIDFrom("radnode"))
	}
}

func TestValidUID(t *testing.T) {
	plain := regexp.MustCompile(`^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*$`) // PS3.5 9.1
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[0-9.]{0,70}|[0-9a .]{0,8}|((0|[1-9][0-9]?)\.){1,30}[0-9]`).Draw(t, "uid")
		if got, want := ValidUID(s), len(s) <= 64 && plain.MatchString(s); got != want {
			t.Fatalf("ValidUID(%q) = %v", s, got)
		}
	})
}

// TestUIDNames holds the tables against those of the two Go libraries, as far as these go.
func TestUIDNames(t *testing.T) {
	simple := regexp.MustCompile(`[^a-z0-9]+`)
	same := func(a, b string) bool {
		norm := func(s string) string {
			s = strings.ToLower(s)
			s, _, _ = strings.Cut(s, ":") // "JPEG Baseline (Process 1): Default Transfer Syntax for ..."
			s = strings.TrimSuffix(strings.TrimSpace(s), "(retired)")
			return simple.ReplaceAllString(s, "")
		}
		return strings.HasPrefix(norm(a), norm(b)) || strings.HasPrefix(norm(b), norm(a))
	}
	known := 0
	for _, u := range slices.Concat(StorageSOPClasses(), TransferSyntaxes()) {
		name := UIDName(u)
		if name == "" || !ValidUID(u) {
			t.Errorf("%s has no name", u)
		}
		if info, err := dicomuid.Lookup(u); err == nil {
			known++
			if !same(name, info.Name) {
				t.Errorf("%s is %q, grailbio says %q", u, name, info.Name)
			}
		}
		if info, err := uid.Lookup(u); err == nil {
			known++
			if !same(name, info.Name) {
				t.Errorf("%s is %q, suyashkumar says %q", u, name, info.Name)
			}
		}
	}
	if known < 250 {
		t.Errorf("only %d names have a witness", known)
	}
	if !slices.IsSortedFunc(StorageSOPClasses(), compareUIDs) {
		t.Error("storage SOP classes are not in the order of their UIDs")
	}
	// What the libraries know as storage is in the table.
	for _, u := range []string{CTImageStorage, SegmentationStorage, RTStructureSetStorage, Comprehensive3DSRStorage, ComprehensiveSRStorage,
		EnhancedSRStorage, LabelMapSegmentationStorage, "1.2.840.10008.5.1.4.1.1.481.23"} {
		if !slices.Contains(StorageSOPClasses(), u) {
			t.Errorf("%s is missing", u)
		}
	}
	if n := len(StorageSOPClasses()); n < 170 {
		t.Errorf("%d storage SOP classes", n)
	}
	if UIDName(VerificationSOPClass) == "" || UIDName("1.2.3") != "" {
		t.Error("Verification")
	}
}

// compareUIDs orders UIDs component by component.
func compareUIDs(a, b string) int {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	return slices.CompareFunc(x, y, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
}

func TestTransferSyntaxes(t *testing.T) {
	for _, u := range []string{ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian} {
		if ts, ok := LookupTransferSyntax(u); !ok || !ts.Decodable || ts.Encapsulated {
			t.Errorf("%+v", ts)
		}
	}
	seen := make(map[string]bool)
	for _, u := range TransferSyntaxes() {
		ts, ok := LookupTransferSyntax(u)
		if !ok || seen[u] || ts.Encapsulated && (!ts.ExplicitVR || ts.BigEndian) {
			t.Errorf("%+v", ts) // PS3.5 A.4: encapsulated is Explicit VR Little Endian
		}
		seen[u] = true
	}
	// PS3.5 Table A-1 and A.4: what peers propose for compressed images.
	for _, u := range []string{".1.98", ".4.50", ".4.51", ".4.57", ".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".4.92", ".4.93",
		".4.100", ".4.101", ".4.102", ".4.103", ".4.104", ".4.105", ".4.106", ".4.107", ".4.108", ".4.100.1", ".4.106.1", ".5",
		".4.201", ".4.202", ".4.203", ".4.110", ".4.111", ".4.112", ".8.1"} {
		if ts, ok := LookupTransferSyntax("1.2.840.10008.1.2" + u); !ok || !ts.Encapsulated {
			t.Errorf("%s: %+v", u, ts)
		}
	}
	if _, ok := LookupTransferSyntax("1.2.3"); ok {
		t.Error("1.2.3 is a transfer syntax")
	}
}

// TestTags holds the constants against the dictionary: a wrong number would name another attribute.
func TestTags(t *testing.T) {
	for tg, keyword := range map[Tag]string{PatientID: "PatientID", ContourData: "ContourData", PixelData: "PixelData",
		TrackingUID: "TrackingUID", FloatingPointValue: "FloatingPointValue", SegmentsOverlap: "SegmentsOverlap"} {
		if tg.Keyword() != keyword {
			t.Errorf("%s is %s, want %s", tg, tg.Keyword(), keyword)
		}
	}
	for tg, vr := range map[Tag]VR{PatientName: PN, Rows: US, ContourData: DS, ContentSequence: SQ, 0x60020010: US, 0x60103000: OB,
		0x00290010: LO, 0x00291010: UN, 0x00080000: UL, 0x50000010: US} {
		if tg.VR() != vr {
			t.Errorf("%s has VR %s, want %s", tg, tg.VR(), vr)
		}
	}
	if PatientID.String() != "(0010,0020)" || PixelData.String() != "(7FE0,0010)" || Tag(0x00291010).Keyword() != "" || !Tag(0x00291010).Private() {
		t.Error("Tag")
	}
	if info, err := tag.FindByKeyword("ROIContourSequence"); err != nil || Tag(info.Tag.Uint32()) != ROIContourSequence {
		t.Error(err)
	}
}

// TestTagNumbers holds every constant of tags.go against the dictionary: its name is the keyword that PS3.6 gives to its
// number.
func TestTagNumbers(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "tags.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		v, err := strconv.ParseUint(spec.Values[0].(*ast.BasicLit).Value, 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		if name := spec.Names[0].Name; Tag(v).Keyword() != name {
			t.Errorf("%s is %s, which is %q", name, Tag(v), Tag(v).Keyword())
		}
		n++
		return true
	})
	if n < 500 {
		t.Errorf("only %d constants", n)
	}
}
