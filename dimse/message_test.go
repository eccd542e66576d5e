package dimse

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/radnode/radnode/dimse/dicom"
	"pgregory.net/rapid"
)

// echoscuCommand is the command set of DCMTK 3.6.7's echoscu: group length 56, Affected SOP Class UID Verification,
// Command Field 0030H, Message ID 1, Command Data Set Type 0101H.
var echoscuCommand = []byte("\x00\x00\x00\x00\x04\x00\x00\x00\x38\x00\x00\x00" +
	"\x00\x00\x02\x00\x12\x00\x00\x001.2.840.10008.1.1\x00" +
	"\x00\x00\x00\x01\x02\x00\x00\x00\x30\x00" +
	"\x00\x00\x10\x01\x02\x00\x00\x00\x01\x00" +
	"\x00\x00\x00\x08\x02\x00\x00\x00\x01\x01")

func TestEchoCommandBytes(t *testing.T) {
	want := &EchoRequest{MessageID: 1, AffectedSOPClassUID: dicom.VerificationSOPClass}
	got, err := decodeCommand(echoscuCommand)
	if err != nil || !cmp.Equal(got, Message(want)) {
		t.Errorf("%+v, %v", got, err)
	}
	if b := encodeCommand(want); !bytes.Equal(b, echoscuCommand) {
		t.Errorf("% x\nwant\n% x", b, echoscuCommand)
	}
	wrong := bytes.Clone(echoscuCommand)
	binary.LittleEndian.PutUint32(wrong[8:], 0xffffffff) // a wrong group length is passed over
	if got, err := decodeCommand(wrong); err != nil || !cmp.Equal(got, Message(want)) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMessageCircle(t *testing.T) {
	uid := rapid.StringMatching(`[0-9.]{0,64}`)
	status := rapid.Custom(func(t *rapid.T) Status {
		return Status{rapid.Uint16().Draw(t, "code"), rapid.StringMatching(`([!-\[\]-~]([ -\[\]-~]{0,40}[!-\[\]-~])?)?`).Draw(t, "comment")}
	})
	id := rapid.Uint16()
	message := rapid.Custom(func(t *rapid.T) Message {
		switch rapid.IntRange(0, 10).Draw(t, "kind") {
		case 0:
			m := &StoreRequest{MessageID: id.Draw(t, "id"), AffectedSOPClassUID: uid.Draw(t, "class"), AffectedSOPInstanceUID: uid.Draw(t, "instance"), Priority: id.Draw(t, "priority"), NoDataSet: rapid.Bool().Draw(t, "none")}
			if m.MoveOriginatorAETitle = rapid.StringMatching(`[A-Z]{0,16}`).Draw(t, "originator"); m.MoveOriginatorAETitle != "" {
				m.MoveOriginatorMessageID = id.Draw(t, "originator id")
			}
			return m
		case 1:
			return &StoreResponse{id.Draw(t, "id"), uid.Draw(t, "class"), uid.Draw(t, "instance"), status.Draw(t, "status")}
		case 2:
			return &EchoRequest{id.Draw(t, "id"), uid.Draw(t, "class"), rapid.Bool().Draw(t, "data")}
		case 3:
			return &EchoResponse{id.Draw(t, "id"), uid.Draw(t, "class"), status.Draw(t, "status")}
		case 4:
			return &CancelRequest{id.Draw(t, "id")}
		case 5:
			field := rapid.SampledFrom([]CommandField{CGetRQ, CFindRQ, CMoveRQ, NGetRQ, NSetRQ, NCreateRQ, NDeleteRQ, 0x0999}).Draw(t, "field")
			return &Request{field, id.Draw(t, "id"), uid.Draw(t, "class"), uid.Draw(t, "instance"), rapid.Bool().Draw(t, "data")}
		case 6:
			return &EventReportRequest{id.Draw(t, "id"), uid.Draw(t, "class"), uid.Draw(t, "instance"), id.Draw(t, "event"), rapid.Bool().Draw(t, "data")}
		case 7:
			return &EventReportResponse{id.Draw(t, "id"), uid.Draw(t, "class"), uid.Draw(t, "instance"), id.Draw(t, "event"), status.Draw(t, "status"), rapid.Bool().Draw(t, "data")}
		case 8:
			return &ActionRequest{id.Draw(t, "id"), uid.Draw(t, "class"), uid.Draw(t, "instance"), id.Draw(t, "action"), rapid.Bool().Draw(t, "data")}
		case 9:
			return &ActionResponse{id.Draw(t, "id"), uid.Draw(t, "class"), uid.Draw(t, "instance"), id.Draw(t, "action"), status.Draw(t, "status"), rapid.Bool().Draw(t, "data")}
		}
		field := rapid.SampledFrom([]CommandField{CFindRQ, NSetRQ, 0x0999}).Draw(t, "field")
		return &Response{field | responseBit, id.Draw(t, "id"), uid.Draw(t, "class"), uid.Draw(t, "instance"), status.Draw(t, "status"), rapid.Bool().Draw(t, "data")}
	})
	rapid.Check(t, func(t *rapid.T) {
		m := message.Draw(t, "message")
		b := encodeCommand(m)
		if n := binary.LittleEndian.Uint32(b[8:]); int(n) != len(b)-12 || len(b)%2 != 0 {
			t.Fatalf("group length %d of %d bytes", n, len(b))
		}
		got, err := decodeCommand(b)
		if err != nil || !cmp.Equal(m, got) {
			t.Fatalf("%v\n%s", err, cmp.Diff(m, got))
		}
	})
}

func FuzzCommand(f *testing.F) {
	f.Add(echoscuCommand)
	f.Add(encodeCommand(&StoreRequest{MessageID: 7, AffectedSOPClassUID: dicom.CTImageStorage, AffectedSOPInstanceUID: "1.2.3", MoveOriginatorAETitle: "A", MoveOriginatorMessageID: 2}))
	f.Add(encodeCommand(&StoreResponse{7, dicom.CTImageStorage, "1.2.3", Status{StatusOutOfResources, "disk full"}}))
	f.Add(encodeCommand(&Request{NSetRQ, 7, "1.2", "1.3", true}))
	f.Add(encodeCommand(&ActionRequest{7, dicom.StorageCommitmentPushModelSOPClass, storageCommitmentInstance, 1, true}))
	f.Add(encodeCommand(&EventReportResponse{7, dicom.StorageCommitmentPushModelSOPClass, storageCommitmentInstance, 2, Status{}, false}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		m, err := decodeCommand(b)
		runtime.ReadMemStats(&after)
		// An element of 8 bytes is 32 in memory, and as much again for the growth of its slice, twice.
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(64<<10+16*len(b)); got > limit {
			t.Errorf("%d bytes of memory for %d bytes", got, len(b))
		}
		if err != nil {
			return
		}
		again, err := decodeCommand(encodeCommand(m))
		if err != nil || !cmp.Equal(m, again) {
			t.Errorf("%v\n%s", err, cmp.Diff(m, again))
		}
	})
}

func TestMalformedCommand(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":                  {},
		"half an element":        echoscuCommand[:15],
		"value longer than rest": echoscuCommand[:len(echoscuCommand)-1],
		"length FFFFFFFF":        {0, 0, 2, 0, 0xff, 0xff, 0xff, 0xff},
		"another group":          append(bytes.Clone(echoscuCommand), 8, 0, 0x18, 0, 0, 0, 0, 0),
		"no command field":       echoscuCommand[:38],
	} {
		if m, err := decodeCommand(b); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}

func TestStatusOf(t *testing.T) {
	for _, c := range []struct {
		err     error
		code    uint16
		comment string
	}{
		{nil, StatusSuccess, ""},
		{fmt.Errorf("store: %w", &Status{StatusMismatch, "UIDs differ"}), StatusMismatch, "UIDs differ"},
		{&os.PathError{Op: "write", Path: "/var/lib/x", Err: syscall.ENOSPC}, StatusOutOfResources, syscall.ENOSPC.Error()},
		{&os.PathError{Op: "open", Path: "/var/lib/x", Err: syscall.EROFS}, StatusOutOfResources, syscall.EROFS.Error()},
		{&dicom.Error{Path: "(0008,0018)", Err: dicom.ErrMalformed}, StatusCannotUnderstand, "the data set is malformed at (0008,0018)"},
		{errors.New("of Patient^Name"), StatusProcessingFailure, "the node could not keep the object, see its log"},
	} {
		if got := statusOf(c.err); got != (Status{c.code, c.comment}) {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

func TestErrorComment(t *testing.T) {
	got := encodeCommand(&StoreResponse{Status: Status{StatusOutOfResources, "a\\b\nc\u00fc" + strings.Repeat("x", 100)}})
	m, err := decodeCommand(got)
	if err != nil || m.(*StoreResponse).Status.Comment != "a?b?c?"+strings.Repeat("x", 58) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestStatusKinds(t *testing.T) {
	for code, done := range map[uint16]bool{0: true, 0xB000: true, 0xB007: true, 0x0107: true, 0xA700: false, 0xC123: false, 0x0110: false} {
		if s := (Status{Code: code}); s.Success() != done {
			t.Errorf("%v: success %v", s, s.Success())
		}
	}
	if got := (&Status{0xA7FF, "why"}).Error(); got != "status A7FFH refused: out of resources: why" {
		t.Error(got)
	}
}

func TestParsePeer(t *testing.T) {
	for in, want := range map[string]Peer{
		"ORTHANC@10.0.0.5:4242": {"ORTHANC", "10.0.0.5:4242"},
		"A B@[::1]:104":         {"A B", "[::1]:104"},
	} {
		if got, err := ParsePeer(in); err != nil || got != want || got.String() != in {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "ORTHANC", "@h:1", "A@h", "A@:104", "A@h:0", "A@h:65536", "A@h:dicom", "SEVENTEEN_LETTERS@h:1", "A\\B@h:1"} {
		if got, err := ParsePeer(in); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}
