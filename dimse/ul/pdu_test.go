package ul

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func title(t testing.TB, s string) AETitle {
	t.Helper()
	a, err := NewAETitle(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// echoRQ is the A-ASSOCIATE-RQ that DCMTK 3.6.7's echoscu sends: ECHOSCU to ANY-SCP, one context (ID 1, Verification,
// Implicit VR Little Endian), maximum length 16384, implementation class and version name of DCMTK.
var echoRQ = []byte("\x01\x00\x00\x00\x00\xcd" + "\x00\x01\x00\x00" + "ANY-SCP         " + "ECHOSCU         " + strings.Repeat("\x00", 32) +
	"\x10\x00\x00\x151.2.840.10008.3.1.1.1" +
	"\x20\x00\x00\x2e\x01\x00\xff\x00" + "\x30\x00\x00\x111.2.840.10008.1.1" + "\x40\x00\x00\x111.2.840.10008.1.2" +
	"\x50\x00\x00\x3a" + "\x51\x00\x00\x04\x00\x00\x40\x00" + "\x52\x00\x00\x1b1.2.276.0.7230010.3.0.3.6.7" + "\x55\x00\x00\x0fOFFIS_DCMTK_367")

func TestDecodeEchoSCU(t *testing.T) {
	if n := binary.BigEndian.Uint32(echoRQ[2:]); int(n) != len(echoRQ)-headerLen {
		t.Fatalf("the captured PDU announces %d bytes and has %d", n, len(echoRQ)-headerLen)
	}
	got, err := decodeAssociateRQ(echoRQ[headerLen:])
	want := &AssociateRQ{
		ProtocolVersion: 1, Called: title(t, "ANY-SCP"), Calling: title(t, "ECHOSCU"), ApplicationContext: ApplicationContext,
		Contexts: []ProposedContext{{1, "1.2.840.10008.1.1", []string{"1.2.840.10008.1.2"}}},
		User:     UserInformation{MaxLength: 16384, ImplementationClassUID: "1.2.276.0.7230010.3.0.3.6.7", ImplementationVersionName: "OFFIS_DCMTK_367"},
	}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
	out := got.AppendTo(nil)
	if !bytes.Equal(bytes.Replace(echoRQ, []byte{1, 0, 0xff, 0}, []byte{1, 0, 0, 0}, 1), out) {
		t.Errorf("encoded again:\n% x\nwant\n% x", out, echoRQ)
	}
}

func genUID() *rapid.Generator[string] { return rapid.StringMatching(`[0-9.]{1,64}`) }

func genUser() *rapid.Generator[UserInformation] {
	return rapid.Custom(func(t *rapid.T) UserInformation {
		u := UserInformation{
			MaxLength:                 rapid.Uint32().Draw(t, "max"),
			ImplementationClassUID:    genUID().Draw(t, "class"),
			ImplementationVersionName: rapid.StringMatching(`[A-Z0-9_]{0,16}`).Draw(t, "version"),
			Roles: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Role {
				return Role{genUID().Draw(t, "uid"), rapid.Bool().Draw(t, "scu"), rapid.Bool().Draw(t, "scp")}
			}), 0, 3).Draw(t, "roles"),
		}
		info := rapid.SliceOfN(rapid.Byte(), 0, 20)
		if rapid.Bool().Draw(t, "window") {
			u.Window = &AsyncWindow{rapid.Uint16().Draw(t, "invoked"), rapid.Uint16().Draw(t, "performed")}
		}
		if rapid.Bool().Draw(t, "identity") {
			u.Identity = &Identity{rapid.Byte().Draw(t, "type"), rapid.Bool().Draw(t, "response"), info.Draw(t, "primary"), info.Draw(t, "secondary")}
		}
		if rapid.Bool().Draw(t, "response") {
			u.IdentityResponse = append([]byte{}, info.Draw(t, "server")...)
		}
		for range rapid.IntRange(0, 3).Draw(t, "extended") {
			u.Extended = append(u.Extended, Extended{genUID().Draw(t, "uid"), info.Draw(t, "info")})
			u.CommonExtended = append(u.CommonExtended, CommonExtended{genUID().Draw(t, "uid"), genUID().Draw(t, "service"), rapid.SliceOfN(genUID(), 0, 3).Draw(t, "related")})
		}
		return u
	})
}

func genTitle() *rapid.Generator[AETitle] {
	return rapid.Custom(func(t *rapid.T) AETitle { return AETitle(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "title")) })
}

func TestAssociateRQCircle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rq := &AssociateRQ{ProtocolVersion: rapid.Uint16().Draw(t, "version"), Called: genTitle().Draw(t, "called"), Calling: genTitle().Draw(t, "calling"), ApplicationContext: genUID().Draw(t, "app"), User: genUser().Draw(t, "user")}
		for i := range rapid.IntRange(0, 128).Draw(t, "contexts") {
			rq.Contexts = append(rq.Contexts, ProposedContext{uint8(2*i + 1), genUID().Draw(t, "abstract"), rapid.SliceOfN(genUID(), 0, 4).Draw(t, "syntaxes")})
		}
		b := rq.AppendTo(nil)
		got, err := decodeAssociateRQ(b[headerLen:])
		if err != nil || !cmp.Equal(rq, got, cmpopts.EquateEmpty()) || int(binary.BigEndian.Uint32(b[2:])) != len(b)-headerLen {
			t.Fatalf("%v\n%s", err, cmp.Diff(rq, got))
		}
	})
}

func TestAssociateACCircle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ac := &AssociateAC{ProtocolVersion: rapid.Uint16().Draw(t, "version"), Called: genTitle().Draw(t, "called"), Calling: genTitle().Draw(t, "calling"), ApplicationContext: genUID().Draw(t, "app"), User: genUser().Draw(t, "user")}
		for i := range rapid.IntRange(0, 128).Draw(t, "contexts") {
			ac.Contexts = append(ac.Contexts, ContextResult{uint8(2*i + 1), Result(rapid.IntRange(0, 4).Draw(t, "result")), genUID().Draw(t, "syntax")})
		}
		b := ac.AppendTo(nil)
		got, err := decodeAssociateAC(b[headerLen:])
		if err != nil || !cmp.Equal(ac, got, cmpopts.EquateEmpty()) || int(binary.BigEndian.Uint32(b[2:])) != len(b)-headerLen {
			t.Fatalf("%v\n%s", err, cmp.Diff(ac, got))
		}
	})
}

func TestAETitle(t *testing.T) {
	for in, valid := range map[string]bool{
		"RADNODE         ": true, "  A/../%s B      ": true, "ECHO\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00": true,
		"                ": false, "A\nB             ": false, "A\x00B             ": false, "A\\B             ": false, "\xff               ": false,
	} {
		if got := AETitle([]byte(in)).Valid(); got != valid {
			t.Errorf("%q valid: %v, want %v", in, got, valid)
		}
	}
	if _, err := NewAETitle("SEVENTEEN_LETTERS"); err == nil {
		t.Error("a title of 17 characters was accepted")
	}
	if got := title(t, "RADNODE"); got.String() != "RADNODE" || string(got[:]) != "RADNODE         " {
		t.Errorf("%q", got)
	}
}

// mutate returns echoRQ with old replaced by new, and the PDU length made right.
func mutate(t testing.TB, old, new string) []byte {
	t.Helper()
	if !bytes.Contains(echoRQ, []byte(old)) {
		t.Fatalf("echoRQ does not contain %q", old)
	}
	b := bytes.Replace(echoRQ, []byte(old), []byte(new), 1)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)-headerLen))
	return b
}

func TestMalformedAssociateRQ(t *testing.T) {
	context := string(echoRQ[headerLen+fixedLen+25 : headerLen+fixedLen+25+50])
	for name, pdu := range map[string][]byte{
		"short":                        echoRQ[:headerLen+40],
		"item longer than the PDU":     mutate(t, "\x10\x00\x00\x15", "\x10\x00\xff\xff"),
		"sub-item 65535, 4 bytes left": append(echoRQ[:len(echoRQ):len(echoRQ)], 0x50, 0, 0, 8, 0x51, 0, 0xff, 0xff, 1, 2, 3, 4),
		"maximum length of two bytes":  mutate(t, "\x50\x00\x00\x3a\x51\x00\x00\x04\x00\x00\x40\x00", "\x50\x00\x00\x38\x51\x00\x00\x02\x40\x00"),
		"even context ID":              mutate(t, "\x20\x00\x00\x2e\x01", "\x20\x00\x00\x2e\x02"),
		"context ID zero":              mutate(t, "\x20\x00\x00\x2e\x01", "\x20\x00\x00\x2e\x00"),
		"context ID twice":             mutate(t, context, context+context),
		"context of two bytes":         mutate(t, context, "\x20\x00\x00\x02\x01\x00"),
		"three bytes left":             append(echoRQ[:len(echoRQ):len(echoRQ)], 0x50, 0, 0),
	} {
		if _, err := decodeAssociateRQ(pdu[headerLen:]); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v, want a malformed PDU", name, err)
		}
	}
	items := bytes.Repeat([]byte{0x77, 0, 0, 0}, 16000) // 16,000 items of four bytes and unknown type are passed over
	if rq, err := decodeAssociateRQ(append(echoRQ[headerLen:len(echoRQ):len(echoRQ)], items...)); err != nil || len(rq.Contexts) != 1 {
		t.Errorf("unknown items: %v", err)
	}
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		r    RejectedError
		want string
	}{
		{RejectCalledAETitle, "refused permanently by the application: called AE title not recognised"},
		{RejectLocalLimitExceeded, "refused for now by the upper layer: local limit exceeded"},
		{RejectProtocolVersion, "refused permanently by the ACSE: protocol version not supported"},
		{RejectedError{Result: 9, Source: 9, Reason: 9}, "refused result 9 by source 9: reason 9"},
	} {
		if got := c.r.Error(); got != "association "+c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if b := RejectLocalLimitExceeded.appendTo(nil); !bytes.Equal(b, []byte{3, 0, 0, 0, 0, 4, 0, 2, 3, 2}) {
		t.Errorf("A-ASSOCIATE-RJ % x", b)
	}
	a := AbortError{Source: AbortProvider, Reason: ReasonUnexpectedPDU}
	if b := a.appendTo(nil); !bytes.Equal(b, []byte{7, 0, 0, 0, 0, 4, 0, 0, 2, 2}) || a.Error() != "association aborted by the peer's upper layer: unexpected PDU" {
		t.Errorf("A-ABORT % x, %v", b, &a)
	}
}

func FuzzAssociateItems(f *testing.F) {
	f.Add(echoRQ[headerLen:])
	f.Add((&AssociateAC{ProtocolVersion: 1, ApplicationContext: ApplicationContext, Contexts: []ContextResult{{1, Acceptance, "1.2.840.10008.1.2"}},
		User: UserInformation{MaxLength: 131072, Window: &AsyncWindow{8, 1}, Roles: []Role{{"1.2", true, false}}, IdentityResponse: []byte{1},
			Extended: []Extended{{"1.2", []byte{1, 2}}}, CommonExtended: []CommonExtended{{"1.2", "1.3", []string{"1.4"}}}, Identity: &Identity{2, true, []byte("u"), []byte("p")}},
	}).AppendTo(nil)[headerLen:])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 60000 { // what was read may be 8 bytes longer written: an item's length would overflow
			return
		}
		if rq, err := decodeAssociateRQ(b); err == nil {
			again, err := decodeAssociateRQ(rq.AppendTo(nil)[headerLen:])
			if err != nil || !cmp.Equal(rq, again) {
				t.Errorf("A-ASSOCIATE-RQ: %v\n%s", err, cmp.Diff(rq, again))
			}
		}
		if ac, err := decodeAssociateAC(b); err == nil {
			again, err := decodeAssociateAC(ac.AppendTo(nil)[headerLen:])
			if err != nil || !cmp.Equal(ac, again) {
				t.Errorf("A-ASSOCIATE-AC: %v\n%s", err, cmp.Diff(ac, again))
			}
		}
	})
}
