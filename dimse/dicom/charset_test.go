package dicom

import (
	"strings"
	"testing"
)

// TestCharsets are the examples of PS3.5 Annexes H (Japanese), I (Korean), J (Chinese) and K (Chinese with code extensions),
// and one line for every other defined term of PS3.3 Tables C.12-2 to C.12-5 with its text from the registration.
func TestCharsets(t *testing.T) {
	for _, c := range []struct {
		terms, in, want string
		vr              VR
	}{
		{`\ISO 2022 IR 87`, "Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B", "Yamada^Tarou=山田^太郎=やまだ^たろう", PN},                            // H.3.1
		{`ISO 2022 IR 13\ISO 2022 IR 87`, "\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", PN}, // H.3.2
		{`\ISO 2022 IR 149`, "Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf", "Hong^Gildong=洪^吉洞=홍^길동", PN},                       // I.2
		{`ISO_IR 192`, "Wang^XiaoDong=王^小東", "Wang^XiaoDong=王^小東", PN},                                                                                                           // J.1
		{`GB18030`, "Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab", "Wang^XiaoDong=王^小东", PN},                                                                                         // J.3
		{`GBK`, "Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab", "Wang^XiaoDong=王^小东", PN},                                                                                             // J.4
		{`\ISO 2022 IR 58`, "Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", "Zhang^XiaoDong=张^小东=", PN},                                                               // K.2
		{`ISO_IR 100`, "Buc^J\xe9r\xf4me", "Buc^Jérôme", PN},
		{`ISO 2022 IR 100`, "Buc^J\xe9r\xf4me", "Buc^Jérôme", PN},
		{`ISO_IR 101`, "W\xa3ODARCZYK", "WŁODARCZYK", LO},
		{`ISO_IR 109`, "\xa1ob\xb1", "Ħobħ", LO},
		{`ISO_IR 110`, "\xbdo\xbf", "Ŋoŋ", LO},
		{`ISO_IR 144`, "\xbb\xee\xda\x63\xd5\xdc\xd1\xe3\xe0\xd3", "Люкcембург", PN},
		{`ISO_IR 127`, "\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", "قباني^لنزار", PN},
		{`ISO_IR 126`, "\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος", PN},
		{`ISO_IR 138`, "\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", "שרון^דבורה", PN},
		{`ISO_IR 148`, "\xc7avu\xfeo\xf0lu", "Çavuşoğlu", LO},
		{`ISO_IR 203`, "5 \xa4", "5 €", LO},
		{`ISO_IR 166`, "\xb9\xd2\xc2", "นาย", PN},
		{`ISO_IR 13`, "\xd4\xcf\xc0\xde^\xc0\xdb\xb3", "ﾔﾏﾀﾞ^ﾀﾛｳ", PN},
		{`\ISO 2022 IR 159`, "\x1b$(D\x30\x21\x1b(B", "丂", LO},
		{`ISO 2022 IR 6\ISO 2022 IR 100\ISO 2022 IR 144`, "\x1b-A\xe9 \x1b-L\xbb", "é Л", LO},
		{`ISO_IR 100`, "plain", "plain", LO},

		// A backslash inside a two-byte character separates nothing; behind the escape it does (PS3.5 6.1.2.5.3).
		{`\ISO 2022 IR 87`, "\x1b$B%\\\x1b(B\\b", "\u30dc" + `\b`, LO},
		{`GBK`, "\x81\x5c\\b", "\u4e57" + `\b`, LO},
		// The sets of the first value come back at a delimiter.
		{`ISO_IR 100\ISO 2022 IR 144`, "\x1b-L\xbb\\\xe9", `Л\é`, LO},
		{`ISO_IR 100\ISO 2022 IR 144`, "\x1b-L\xbb^\xe9", `Л^é`, PN},
		{`ISO_IR 100\ISO 2022 IR 144`, "\x1b-L\xbb^\xfb", "Л^ћ", LO},
	} {
		cs, note := parseCharset([]byte(c.terms))
		if note != "" {
			t.Errorf("%s: %s", c.terms, note)
		}
		got, r := cs.decode(c.vr, []byte(c.in))
		if string(got) != c.want || r.fault != fits {
			t.Errorf("%s: %q is read as %q (%s), want %q", c.terms, c.in, got, r.words(c.vr, cs), c.want)
		}
	}
}

// TestCharsetFaults are terms and bytes that break the rules: text comes out, valid UTF-8, and a note.
func TestCharsetFaults(t *testing.T) {
	for _, c := range []struct {
		terms, in, want string
		noted           bool // of the term
		noteText        bool // of the text
	}{
		{`ISO-IR 100`, "J\xe9", "Jé", true, false},
		{`ISO IR 100`, "J\xe9", "Jé", true, false},
		{`iso_ir 100`, "J\xe9", "Jé", true, false},
		{`ISO_IR_100`, "J\xe9", "Jé", true, false},
		{`ISO2022 IR 100`, "J\xe9", "Jé", true, false},
		{`ISO 8859-1`, "J\xe9", "Jé", true, false},
		{`UTF-8`, "Jé", "Jé", true, false},
		{`GB2312`, "\xcd\xf5", "王", true, false},
		{`gbk`, "\xcd\xf5", "王", true, false},
		{`KLINGON`, "J\xe9", "Jé", true, true},
		{`KLINGON`, "Jé", "Jé", true, true},
		{``, "Jé", "Jé", false, true},       // UTF-8 without saying so stays
		{``, "J\xe9", "Jé", false, true},    // everything else is Latin-1
		{``, "\xcd\xf5", "Íõ", false, true}, // GBK without saying so cannot be known
		{`ISO_IR 192`, "J\xe9", "Jé", false, true},
		{`ISO_IR 6`, "J\xe9", "Jé", false, true},
		{`GB18030`, "\xcd", "Í", false, true},
		{`\ISO 2022 IR 87`, "\x1b$B;", "�", false, true},                                 // cut
		{`\ISO 2022 IR 87`, "Yamada=\x1b$B;3E", "Yamada=山�", false, true},                // cut within a letter
		{`\ISO 2022 IR 87`, "Yamada=\x1b$B;3ED\x1b", "Yamada=山田�", false, true},          // cut within an escape sequence
		{`\ISO 2022 IR 87`, "\x1b%G\xc3\xa9", "%Gé", false, true},                        // an escape of another world
		{`\ISO 2022 IR 149`, "\x1b$)C\xfb", "�", false, true},                            // half a letter
		{`\ISO 2022 IR 149`, "\x1b$)C\xb1\xe6\\\xb5\xbf", `길\동`, false, true},            // no escape sequence behind the delimiter
		{``, "\x1b$)C\xb1\xe6", "길", false, true},                                        // escapes speak for themselves
		{`ISO_IR 100`, "J\xe9 \x1b$)C\xb1\xe6", "Jé 길", false, true},                     // the same
		{`ISO_IR 192`, "\x1b$)C\xb1\xe6", "길", false, true},                              // the same
		{`GB18030`, "\x1b$)C\xb1\xe6", "길", false, true},                                 // the same
		{`ISO_IR 192`, "\x1bé", "é", false, true},                                        // nothing behind the escape
		{`ISO_IR 192`, "Müller^J\xc3", "Müller^J�", false, true},                         // UTF-8 cut within a letter
		{`ISO_IR 192`, "山\xe5\xb0 ", "山�", false, true},                                  // the same, padded
		{`ISO_IR 192`, "M\xfcller^J\xc3", "Müller^JÃ", false, true},                      // Latin-1 all along
		{`GB18030`, "\xcd\xf5^\xd0", "王^�", false, true},                                 // cut
		{`GBK`, "\xcd\xf5^\xff\xff\xcd\xf5", "Íõ^ÿÿÍõ", false, true},                     // no GBK
		{`GBK`, "\xe7\x8e\x8b", "王", false, true},                                        // UTF-8 that GBK does not have
		{`ISO_IR 100`, "Jérôme", "JÃ©rÃ´me", false, true},                                // fits, so it is what is declared
		{`ISO_IR 100`, "JÉRÔME", "JÉRÔME", false, true},                                  // does not fit: Latin-1 has no 89
		{`ISO_IR 100`, "D\x92Arc \x80", "D’Arc €", false, true},                          // Windows-1252
		{`ISO_IR 126`, "Διονυσιος", "Διονυσιος", false, true},                            // UTF-8 that is no ISO 8859-7
		{`ISO_IR 13`, "\x8eR\x93c", "山田", false, true},                                   // Shift JIS
		{`ISO_IR 13`, "\xd4\xcf\xc0\xde=\x8eR\x93c", "ﾔﾏﾀﾞ=山田", false, true},             // Shift JIS with half-width letters
		{`ISO_IR 13`, "\xff\xff", "ÿÿ", false, true},                                     // nothing at all
		{`ISO_IR 149`, "\xb1\xe6\xb5\xbf", "길동", true, false},                            // without escape sequences
		{`ISO_IR 87`, "\x1b$B;3ED\x1b(B", "山田", true, false},                             // with
		{`ISO 2022 GBK`, "\xcd\xf5", "王", true, false},                                   //
		{`ISO_IR 192\ISO 2022 IR 100`, "Jé", "Jé", true, false},                          // stands alone
		{`\ISO_IR 192`, "Jé", "Jé", true, true},                                          // may not follow
		{`ISO 2022 IR 6\ISO_IR 87`, "\x1b$B;3ED\x1b(B", "山田", true, false},               // may not follow under this name
		{`ISO 2022 IR 6\ISO2022 IR 87`, "\x1b$B;3ED\x1b(B", "山田", true, false},           // misspelt behind the first
		{`ISO 2022 IR 6\KLINGON`, "J\xe9", "Jé", true, true},                             //
		{`ISO_IR 99999999999999999999999999999999999999`, "J\xe9", "Jé", true, true},     //
		{strings.Repeat(`\ISO 2022 IR 87`, 100), "\x1b$B;3ED\x1b(B", "山田", false, false}, //
	} {
		var cs *charset
		note := ""
		if c.terms != "" {
			cs, note = parseCharset([]byte(c.terms))
		}
		if (note != "") != c.noted || len(note) > 200 {
			t.Errorf("%s: note %q", c.terms, note)
		}
		got, r := cs.decode(LO, []byte(c.in))
		note = r.words(LO, cs)
		if string(got) != c.want || (note != "") != c.noteText {
			t.Errorf("%s: %q is read as %q (%s), want %q", c.terms, c.in, got, note, c.want)
		}
		// What a report takes over of it is UTF-8, without a fault.
		f, err := le().short(SpecificCharacterSet, "CS", c.terms).short(PatientID, "LO", c.in).read(ExplicitVRLittleEndian)
		if err != nil {
			t.Errorf("%s: %q: %v", c.terms, c.in, err)
			continue
		}
		report := New()
		report.Copy(f.DataSet, PatientID)
		b, err := report.EncodedBytes()
		if err != nil {
			t.Errorf("%s: %q: %v", c.terms, c.in, err)
			continue
		}
		again, err := (&raw{b: b}).read(ExplicitVRLittleEndian)
		if err != nil || len(again.Notes) > 0 || strings.Join(again.DataSet.Strings(PatientID), `\`) != c.want {
			t.Errorf("%s: %q is written as %q: %v %q", c.terms, c.in, b, err, again.Notes)
		}
	}
}

// TestCharsetInheritance reads items that have the character set of the data set around them, and one that has its own.
func TestCharsetInheritance(t *testing.T) {
	item := func(r *raw) string { return string(le().tag(itemTag).u32(uint32(len(r.b))).text(string(r.b)).b) }
	f, err := le().short(SpecificCharacterSet, "CS", "ISO_IR 100").short(PatientID, "LO", "J\xe9").
		long(ContentSequence, "SQ", item(le().short(CodeMeaning, "LO", "J\xe9"))+
			item(le().short(SpecificCharacterSet, "CS", "ISO_IR 192").short(CodeMeaning, "LO", "Ж"))+
			item(le().short(CodeMeaning, "LO", "J\xe9"))).read(ExplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range f.DataSet.Seq(ContentSequence) {
		got = append(got, i.String(CodeMeaning))
	}
	if s := f.DataSet.String(PatientID) + " " + strings.Join(got, " "); s != "Jé Jé Ж Jé" || len(f.Notes) > 0 {
		t.Errorf("%s %q", s, f.Notes)
	}
	// Written, everything is UTF-8, and only the data set says so.
	b, err := f.DataSet.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := (&raw{b: b}).read(ExplicitVRLittleEndian)
	if err != nil || len(again.Notes) > 0 {
		t.Fatal(err, again.Notes)
	}
	if v := again.DataSet.Seq(ContentSequence)[1].String(CodeMeaning); v != "Ж" || strings.Count(string(b), "ISO_IR") != 1 ||
		again.DataSet.String(SpecificCharacterSet) != "ISO_IR 192" {
		t.Errorf("%q", b)
	}
}

// TestManyCharsets gives each of 300 items a character set of its own: the last ones are not followed, and nothing is lost.
func TestManyCharsets(t *testing.T) {
	in := le().open(ContentSequence, "SQ")
	const n = 300
	for i := range n {
		item := le().short(SpecificCharacterSet, "CS", `\ISO 2022 IR 87\`+strings.Repeat(" ", i)+"X").short(CodeMeaning, "LO", "\x1b$B;3")
		in.tag(itemTag).u32(uint32(len(item.b))).text(string(item.b))
	}
	f, err := in.tag(sequenceEndTag).u32(0).read(ExplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	for i, item := range f.DataSet.Seq(ContentSequence) {
		if item.String(CodeMeaning) != "山" {
			t.Errorf("item %d: %q", i+1, item.String(CodeMeaning))
		}
	}
	g := guard{}
	for i := range n {
		if c := g.charset([]byte(strings.Repeat(" ", i) + "ISO_IR 144")); (c == nil) != (i >= maxTexts) {
			t.Errorf("character set %d: %v", i+1, c)
		}
	}
	if len(g.notes) != maxNotes || !strings.Contains(g.notes[0], "not followed") || g.more != n-maxTexts-maxNotes {
		t.Errorf("%q and %d", g.notes, g.more)
	}
}

func TestNameGroups(t *testing.T) {
	const in = "Yamada^Tarou=山田^太郎=やまだ^たろう"
	if p := ParseName(in); p != (NameGroups{"Yamada^Tarou", "山田^太郎", "やまだ^たろう"}) || p.String() != in {
		t.Errorf("%+v", p)
	}
	if p := ParseName("Doe^Jane^^^"); p.Alphabetic != "Doe^Jane" || p.String() != "Doe^Jane" {
		t.Errorf("%+v", p)
	}
}
