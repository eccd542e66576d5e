package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/ul"
)

// (8) A title is refused or kept as it is; it is part of no path, no format and no second line of the log.
func hostileTitles(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	x.attack(8<<20, func() {
		for title, valid := range map[string]bool{
			"../../etc/x": true, "/": true, "..": true, "%s%n%x": true, "$(id)": true, "=1+1": true, "<b>": true,
			"A\nlevel=ERROR": false, "A\x00B": false, "                ": false, "": false, "A\\B": false, "\x1b[2J": false, "\xff\xfe": false,
		} {
			p := x.connect().send(request(func(rq *ul.AssociateRQ) {
				rq.Calling = ul.AETitle([]byte(title + strings.Repeat(" ", 16-len(title))))
			}))
			b := p.pdu()
			if want := map[bool]byte{true: pduAssociateAC, false: pduAssociateRJ}[valid]; len(b) == 0 || b[0] != want {
				t.Errorf("%q answered with % x", title, b)
				continue
			}
			if !valid {
				if [3]byte(b[7:]) != [3]byte{1, 1, 3} { // permanent, user, calling AE title not recognised
					t.Errorf("%q refused with % x", title, b)
				}
				_ = p.Close()
				continue
			}
			o := goodObject(t, 1000+x.good)
			p.send(pdv(3, true, true, storeCommand(1, o.meta.MediaStorageSOPInstanceUID)), pdv(3, false, true, o.data))
			p.answered(1, 0)
			x.good++
			in, err := x.node.store.Instance(o.meta.MediaStorageSOPInstanceUID)
			if err != nil || in.SourceAET != title {
				t.Errorf("%q is kept as %q, %v", title, in.SourceAET, err)
			}
			p.lives()
		}
	})
	for line := range strings.Lines(x.log.String()) {
		if !strings.HasPrefix(line, "time=") || strings.ContainsAny(line, "\x1b\x00") {
			t.Errorf("a title broke the log: %q", line)
		}
	}
}

// (9) Each context is answered by itself; IDs that PS3.8 9.3.2.2 forbids abort.
func hostileContexts(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	contexts := func(n int, id func(i int) int, ts ...string) func(*ul.AssociateRQ) {
		return func(rq *ul.AssociateRQ) {
			rq.Contexts = nil
			for i := range n {
				rq.Contexts = append(rq.Contexts, ul.ProposedContext{ID: uint8(id(i)), AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: ts})
			}
		}
	}
	odd := func(i int) int { return 2*i + 1 }
	x.attack(16<<20, func() {
		for name, change := range map[string]func(*ul.AssociateRQ){
			"twice": contexts(2, func(int) int { return 3 }, dicom.ExplicitVRLittleEndian), "even": contexts(1, func(int) int { return 2 }, dicom.ExplicitVRLittleEndian),
			"zero": contexts(1, func(int) int { return 0 }, dicom.ExplicitVRLittleEndian), "129 contexts": contexts(129, odd, dicom.ExplicitVRLittleEndian),
		} {
			p := x.connect().send(request(change))
			if b := p.pdu(); len(b) == 0 || b[0] != pduAbort {
				t.Errorf("%s: % x, want A-ABORT", name, b)
			}
			_ = p.Close()
		}
		for _, c := range []struct {
			name   string
			change func(*ul.AssociateRQ)
			n      int
			result byte // PS3.8 Table 9-18
		}{
			{"128 contexts", contexts(128, odd, dicom.ExplicitVRLittleEndian), 128, 0},
			{"no transfer syntax", contexts(1, odd), 1, 4},
			{"empty transfer syntax", contexts(1, odd, ""), 1, 4},
			{"transfer syntax that is no UID", contexts(1, odd, "../../x", "%s"), 1, 4},
			{"private transfer syntax", contexts(1, odd, "1.2.3.4.5"), 1, 0},
			{"no abstract syntax", func(rq *ul.AssociateRQ) {
				rq.Contexts = []ul.ProposedContext{{ID: 1, TransferSyntaxes: []string{"1.2.840.10008.1.2"}}}
			}, 1, 3},
			{"abstract syntax of a megabyte's worth", func(rq *ul.AssociateRQ) {
				rq.Contexts = []ul.ProposedContext{{ID: 1, AbstractSyntax: strings.Repeat("1", 60000), TransferSyntaxes: []string{"1.2.840.10008.1.2"}}}
			}, 1, 3},
			{"no context at all", func(rq *ul.AssociateRQ) { rq.Contexts = nil }, 0, 0},
		} {
			p := x.connect().send(request(c.change))
			b := p.pdu()
			if len(b) == 0 || b[0] != pduAssociateAC {
				t.Errorf("%s: % x", c.name, b)
				continue
			}
			n := 0
			for b = b[74:]; len(b) >= 4; b = b[4+(int(b[2])<<8|int(b[3])):] {
				if b[0] == 0x21 {
					if n++; b[6] != c.result {
						t.Errorf("%s: context %d has result %d, want %d", c.name, b[4], b[6], c.result)
					}
				}
			}
			if n != c.n {
				t.Errorf("%s: %d contexts answered, want %d", c.name, n, c.n)
			}
			p.released()
		}
	})
}

// (10) Items that lie about their length abort; many small ones cost nothing, or are refused where they would be kept.
func hostileItems(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	with := func(items ...[]byte) []byte { // behind the items of a request
		b := append(request(nil), bytes.Join(items, nil)...)
		binary.BigEndian.PutUint32(b[2:], uint32(len(b)-6))
		return b
	}
	user := func(items []byte) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{0x50, 0}, uint16(len(items))), items...)
	}
	context := func(items []byte) []byte {
		items = append([]byte{7, 0, 0, 0}, items...)
		return append(binary.BigEndian.AppendUint16([]byte{0x20, 0}, uint16(len(items))), items...)
	}
	many := func(item ...byte) []byte { return bytes.Repeat(item, 16000*4/len(item)) }
	x.attack(16<<20, func() {
		for _, c := range []struct {
			name string
			b    []byte
			want byte
		}{
			{"65,535 bytes announced, 4 left", with(user([]byte{0x52, 0, 0xff, 0xff, '1', '.', '2', '.'})), pduAbort},
			{"the same in a context", with(context([]byte{0x40, 0, 0xff, 0xff, '1', '.', '2', '.'})), pduAbort},
			{"the same in a UID of a role", with(user([]byte{0x54, 0, 0, 4, 0xff, 0xff, '1', '.'})), pduAbort},
			{"three bytes at the end", with([]byte{0x50, 0, 0}), pduAbort},
			{"16,000 unknown sub-items", with(user(many(0x77, 0, 0, 0))), pduAssociateAC},
			{"16,000 unknown items", with(many(0x77, 0, 0, 0)), pduAssociateAC},
			{"16,000 implementation names", with(user(many(0x55, 0, 0, 0))), pduAssociateAC},
			{"16,000 transfer syntaxes", with(context(many(0x40, 0, 0, 0))), pduAbort},
			{"10,667 extended negotiations", with(user(many(0x56, 0, 0, 2, 0, 0))), pduAbort},
			{"8,000 roles", with(user(many(0x54, 0, 0, 4, 0, 0, 1, 1))), pduAbort},
			{"a user identity of 60,000 bytes", with(user(append([]byte{0x58, 0, 0xea, 0x66, 2, 1, 0xea, 0x60}, make([]byte, 60002)...))), pduAssociateAC},
			{"100,000 items in one PDU", with(bytes.Repeat([]byte{0x77, 0, 0, 0}, 100_000)), pduAssociateAC},
			{"150,000 items in one PDU", with(bytes.Repeat([]byte{0x77, 0, 0, 0}, 150_000)), pduAbort}, // more than 512 KiB
		} {
			p := x.connect().send(c.b)
			if b := p.pdu(); len(b) == 0 || b[0] != c.want {
				t.Errorf("%s: % x, want a PDU of type %d", c.name, b[:min(len(b), 20)], c.want)
			}
			_ = p.Close()
		}
	})
}

// (11) What PS3.8 Table 9-10 does not want in a state aborts, and what it does want is answered.
func hostileStates(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	rq, release := request(nil), []byte{5, 0, 0, 0, 0, 4, 0, 0, 0, 0}
	echo := pdv(1, true, true, echoCommand(1))
	half := bytes.Join([][]byte{pdv(3, true, true, storeCommand(1, "1.2.3")), pdv(3, false, false, []byte("half"))}, nil)
	x.attack(16<<20, func() {
		x.associate(nil).send(rq).ends(pduAbort)                // two requests
		x.connect().send(rq, rq).ends(pduAbort)                 // and both at once
		x.connect().send(echo).ends(pduAbort)                   // P-DATA before the request
		x.connect().send(release).ends(pduAbort)                // release before it
		x.associate(nil).send(half, release).ends(pduReleaseRP) // release inside a C-STORE: the object is lost
		x.associate(nil).send(half, rq).ends(pduAbort)
		x.associate(nil).send(half, echo).ends(pduAbort)                         // another message inside an object
		x.associate(nil).send(pdv(7, true, true, echoCommand(1))).ends(pduAbort) // a context that was not proposed
		x.associate(nil).send(pdv(2, true, true, echoCommand(1))).ends(pduAbort) // an even one
		x.associate(nil).send(pdv(3, true, true, storeCommand(1, "1.2.3")), pdv(5, false, true, []byte("x"))).ends(pduAbort)
		x.associate(nil).send(release, echo).ends(pduReleaseRP) // data after the release is not looked at
		rejected := x.associate(func(rq *ul.AssociateRQ) {      // a context that was refused
			rq.Contexts = append(rq.Contexts, ul.ProposedContext{ID: 9, AbstractSyntax: "1.2.840.10008.5.1.4.31", TransferSyntaxes: []string{dicom.ImplicitVRLittleEndian}})
		})
		rejected.send(pdv(9, true, true, echoCommand(1))).ends(pduAbort)
	})
	x.logged("released inside a message", "which is not accepted")
}

// (12) A window is granted up to ours; requests that come all at once are answered one after the other.
func hostileWindows(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	x.attack(32<<20, func() {
		for _, w := range []ul.AsyncWindow{{Invoked: 0, Performed: 0}, {Invoked: 1, Performed: 1}, {Invoked: 65535, Performed: 65535}, {Invoked: 1, Performed: 65535}} {
			p := x.connect().send(request(func(rq *ul.AssociateRQ) { rq.User.Window = &w }))
			b := p.pdu()
			i := bytes.Index(b, []byte{0x53, 0, 0, 4})
			if len(b) == 0 || b[0] != pduAssociateAC || i < 0 {
				t.Fatalf("window %v: % x", w, b)
			}
			granted := binary.BigEndian.Uint16(b[i+4:])
			if want := min(w.Invoked-1, 15) + 1; granted != want { // 0 is without limit
				t.Errorf("window %v: %d operations granted, want %d", w, granted, want)
			}
			// A thousand at once, whatever was granted.
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				var all []byte
				for i := range 1000 {
					all = append(all, pdv(1, true, true, echoCommand(i))...)
				}
				p.send(all)
			}()
			for i := range 1000 {
				p.answered(i, 0)
			}
			<-sent
			p.lives()
		}
		// One who does not read its answers is given up.
		p := x.associate(nil)
		echoes := bytes.Repeat(pdv(1, true, true, echoCommand(1)), 1000)
		_ = p.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		for {
			if _, err := p.Write(echoes); err != nil {
				break
			}
		}
		_ = p.Close()
	})
}

// (13) Where the peer leaves no room for data there is no association; otherwise PDUs are as short as it wants.
func hostileMaxLengths(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	x.attack(8<<20, func() {
		for n, want := range map[uint32]byte{1: pduAssociateRJ, 7: pduAssociateRJ, 0: pduAssociateAC, 8: pduAssociateAC, 0xffffffff: pduAssociateAC} {
			p := x.connect().send(request(func(rq *ul.AssociateRQ) { rq.User.MaxLength = n }))
			if b := p.pdu(); len(b) == 0 || b[0] != want {
				t.Errorf("maximum length %d: % x", n, b)
			}
			if want == pduAssociateAC {
				p.send(pdv(1, true, true, echoCommand(1)))
				if b := p.pdu(); len(b) < 6 || n != 0 && binary.BigEndian.Uint32(b[2:]) > n {
					t.Errorf("maximum length %d: a PDU of %d bytes", n, len(b)-6)
				}
			}
			_ = p.Close()
		}
	})
	x.stop()

	// The same from a destination: a report waits, with the reason, and arrives in pieces of two bytes when it may.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := testConfig(t)
	cfg.Deliver = []string{"PACS@" + l.Addr().String()}
	y := startTarget(t, cfg, nil)
	y.more = 1
	served := make(chan error, 1)
	y.attack(64<<20, func() {
		objects := demoObjects(t)
		y.good += len(objects)
		y.store(objects...)
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		p := &rawPeer{nc, t}
		if err := answerWith(p, 7); err != nil {
			t.Fatal(err)
		}
		p.ends(pduAbort)
		y.logged("maximum PDU length 7 leaves no room for data")
		go func() {
			nc, err := l.Accept()
			if err != nil {
				served <- err
				return
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(patience))
			p := &rawPeer{nc, t}
			if err := answerWith(p, 8); err != nil {
				served <- err
				return
			}
			for n := 0; n < 1000; n++ {
				if b := p.pdu(); len(b) == 0 || len(b) > 14 {
					served <- fmt.Errorf("PDU %d has %d bytes", n, len(b))
					return
				}
			}
			served <- nil
		}()
		if err := <-served; err != nil {
			t.Error(err)
		}
		l.Close()
	})
}

// flood writes the same again and again until the node aborts.
func (p *rawPeer) flood(b []byte) {
	p.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := p.Write(b); err != nil {
				return
			}
		}
	}()
	p.ends(pduAbort)
	<-done
}

// (14) PDVs that cannot be, and a command that goes beyond 64 KiB, in large fragments and in empty ones.
func hostilePDVs(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	x.attack(16<<20, func() {
		for _, b := range map[string][]byte{
			"0":                    {4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 1, 3},
			"1":                    {4, 0, 0, 0, 0, 6, 0, 0, 0, 1, 1, 3},
			"longer than its PDU":  {4, 0, 0, 0, 0, 8, 0, 0, 0, 5, 1, 3, 0, 0},
			"FFFFFFFF":             {4, 0, 0, 0, 0, 8, 0xff, 0xff, 0xff, 0xff, 1, 3, 0, 0},
			"PDU over the maximum": append([]byte{4, 0, 0, 2, 0, 1}, make([]byte, 0x20001)...),
		} {
			x.associate(nil).send(b).ends(pduAbort)
		}
		for _, n := range []int{16 << 10, 1, 0} {
			fragment := pdv(1, true, false, make([]byte, n))
			x.associate(nil).flood(bytes.Repeat(fragment, max(1, 32<<10/len(fragment))))
		}
	})
	x.logged("command longer than 65536 bytes")
}

// (15) An object over the limit is refused with A700, one without an end is given up; nothing of either is left.
func hostileEndless(t *testing.T) {
	cfg := testConfig(t)
	cfg.DICOM.MaxObject = 4 << 20 // beyond what the store holds in memory
	x := startTarget(t, cfg, nil)
	part := make([]byte, 100<<10)
	o := goodObject(t, 999)
	uid := o.meta.MediaStorageSOPInstanceUID
	head := o.data[:len(o.data)-44] // without Pixel Data (7FE0,0010), which then announces more than there ever is
	head = append(bytes.Clone(head), 0xE0, 0x7F, 0x10, 0, 'O', 'W', 0, 0, 0xFE, 0xFF, 0xFF, 0xFF)
	x.attack(32<<20, func() {
		for _, n := range []int{45, 79} { // up to twice the limit the peer hears why
			p := x.associate(nil)
			p.send(pdv(3, true, true, storeCommand(1, uid)), pdv(3, false, false, head))
			for i := range n {
				p.send(pdv(3, false, i == n-1, part))
			}
			if comment := p.answered(1, 0xA700); !strings.Contains(comment, "larger than 4194304 bytes") {
				t.Errorf("Error Comment %q", comment)
			}
			p.lives()
		}
		// One that goes on is answered, then aborted.
		x.associate(nil).send(pdv(3, true, true, storeCommand(1, uid)), pdv(3, false, false, head)).flood(pdv(3, false, false, part))
	})
	x.logged("the data set does not end")
}

// (16) Commands that contradict themselves are answered, and the association lives.
func hostileCommands(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	o, again := goodObject(t, 900), goodObject(t, 901)
	uid := o.meta.MediaStorageSOPInstanceUID
	x.attack(16<<20, func() {
		p := x.associate(nil)
		// No data set, and one follows.
		p.send(pdv(3, true, true, commandSet(map[uint16]any{0x0002: dicom.CTImageStorage, 0x0100: 1, 0x0110: 1, 0x0700: 0, 0x0800: 0x0101, 0x1000: uid})), pdv(3, false, true, o.data))
		p.answered(1, 0xC000)
		p.send(pdv(1, true, true, echoCommand(2)), pdv(1, false, true, []byte("stray")))
		p.answered(2, 0)
		// A wrong group length.
		wrong := storeCommand(3, uid)
		copy(wrong[8:], []byte{0xff, 0xff, 0xff, 0xff})
		p.send(pdv(3, true, true, wrong), pdv(3, false, true, o.data))
		p.answered(3, 0)
		x.good++
		// The same Message ID once more.
		p.send(pdv(3, true, true, storeCommand(3, again.meta.MediaStorageSOPInstanceUID)), pdv(3, false, true, again.data))
		p.answered(3, 0)
		x.good++
		// Commands that there are not, and such as are not served here.
		for field, status := range map[int]int{0x0999: 0x0211, 0x7FFF: 0x0211, 0x0020: 0x0211, 0x0021: 0x0211} {
			p.send(pdv(3, true, true, commandSet(map[uint16]any{0x0002: dicom.CTImageStorage, 0x0100: field, 0x0110: 7, 0x0800: 1})), pdv(3, false, true, []byte("identifier")))
			p.answered(7, status)
		}
		p.lives()
		for _, broken := range [][]byte{nil, []byte("nonsense"), commandSet(map[uint16]any{0x0110: 1}), storeCommand(1, uid)[:40]} {
			x.associate(nil).send(pdv(3, true, true, broken)).ends(pduAbort)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); strings.Count(x.log.String(), "operation not supported") != 4; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("operations that are not supported are not in the log")
			break
		}
	}
}

// (17) A peer that vanishes inside an object leaves nothing, before and after a restart.
func hostileVanish(t *testing.T) {
	cfg := testConfig(t)
	x := startTarget(t, cfg, nil)
	o := goodObject(t, 950)
	large := object(t, imageDataSet("1.2.3.4", make([]byte, 3<<20)), dicom.ExplicitVRLittleEndian)
	before, _ := os.ReadDir(x.dir + "/large")
	x.attack(32<<20, func() {
		for _, data := range [][]byte{o.data[:20], o.data[:len(o.data)-1], large.data} {
			for _, leave := range []func(p *rawPeer){
				func(p *rawPeer) { _ = p.Close() }, // with a reset
				func(p *rawPeer) { _ = p.Conn.(*net.TCPConn).CloseWrite(); p.ends(0) },
				func(p *rawPeer) { p.send([]byte{7, 0, 0, 0, 0, 4, 0, 0, 0, 0}); p.ends(0) },
			} {
				p := x.associate(nil)
				p.send(pdv(3, true, true, storeCommand(1, "1.2.3.4")))
				for b := data; len(b) > 0; {
					n := min(len(b), 100<<10)
					p.send(pdv(3, false, false, b[:n]))
					b = b[n:]
				}
				leave(p)
			}
		}
	})
	x.stop()
	y := startTarget(t, cfg, nil)
	y.good = x.good
	y.shows()
	y.unharmed()
	if after, _ := os.ReadDir(x.dir + "/large"); len(after) != len(before) {
		t.Errorf("%d large objects, %d before", len(after), len(before))
	}
	if _, err := y.node.store.Instance("1.2.3.4"); err == nil {
		t.Error("an object that broke off is there")
	}
}

// (18) What is no UID never reaches a file name, nor the log.
func hostileUIDs(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	uids := []string{"../../x", "/etc/x", "", strings.Repeat("1", 65), "1.2\x003", "$(id)", "1.2\n3", "1.2 3", "\\x", "%s", "..\\x", "C:x", "1.2;rm"}
	x.attack(16<<20, func() {
		p := x.associate(nil)
		for _, uid := range uids {
			p.send(pdv(3, true, true, storeCommand(1, uid)), pdv(3, false, true, []byte("x")))
			p.answered(1, 0x0117)
		}
		// The same inside the data set, where the command is good, and as study and series.
		for i, uid := range uids {
			for _, tag := range []dicom.Tag{dicom.SOPInstanceUID, dicom.StudyInstanceUID, dicom.SeriesInstanceUID} {
				o := goodObject(t, 800+i)
				data := spliced(t, o.data, tag, dicom.UI, append([]byte(uid), make([]byte, len(uid)%2)...))
				p.send(pdv(3, true, true, storeCommand(2, o.meta.MediaStorageSOPInstanceUID)), pdv(3, false, true, data))
				if _, status, comment := p.answer(); status>>12 != 0xC && status != 0xA900 {
					t.Errorf("%q as %s is answered with %04X %q", uid, tag.Keyword(), status, comment)
				}
			}
		}
		p.lives()
	})
	for _, w := range []string{"etc/x", "$(id)", "rm"} {
		if strings.Contains(x.log.String(), w) {
			t.Errorf("%q is in the log", w)
		}
	}
}

// (19) A data set of another UID or class than the command's: A900, and nothing is kept.
func hostileMismatch(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	o := goodObject(t, 700)
	x.attack(16<<20, func() {
		p := x.associate(nil)
		p.send(pdv(3, true, true, storeCommand(1, "1.2.3.4")), pdv(3, false, true, o.data))
		p.answered(1, 0xA900)
		other := spliced(t, o.data, dicom.SOPClassUID, dicom.UI, []byte("1.2.840.10008.5.1.4.1.1.4\x00"))
		p.send(pdv(3, true, true, storeCommand(2, o.meta.MediaStorageSOPInstanceUID)), pdv(3, false, true, other))
		p.answered(2, 0xA900)
		large := object(t, imageDataSet("1.2.3.5", make([]byte, 3<<20)), dicom.ExplicitVRLittleEndian)
		p.send(pdv(3, true, true, storeCommand(3, "1.2.3.6")))
		for b := large.data; len(b) > 0; {
			n := min(len(b), 100<<10)
			p.send(pdv(3, false, n == len(b), b[:n]))
			b = b[n:]
		}
		p.answered(3, 0xA900)
		p.lives()
	})
}

// (20) The same bytes again are one copy; other bytes under the same UID are kept as evidence, and an alert names the UID. Two at
// once make no difference.
func hostileDuplicates(t *testing.T) {
	x := startTarget(t, testConfig(t), nil)
	same := object(t, imageDataSet("1.2.3.7", make([]byte, 32)), dicom.ExplicitVRLittleEndian)
	other := object(t, imageDataSet("1.2.3.7", bytes.Repeat([]byte{1}, 32)), dicom.ExplicitVRLittleEndian)
	send := func(o demoObject) chan error {
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			done <- push(ctx, x.peer(), []demoObject{o, o, o})
		}()
		return done
	}
	x.attack(16<<20, func() {
		var all []chan error
		for i := range 16 {
			all = append(all, send([]demoObject{same, other}[i%2]))
		}
		for _, done := range all {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		x.good++
	})
	in, err := x.node.store.Instance("1.2.3.7")
	if err != nil || in.Conflicts != 1 {
		t.Errorf("%d conflicts, %v, want 1", in.Conflicts, err)
	}
	list, err := x.node.store.Conflicts("1.2.3.7")
	if err != nil || len(list) != 1 || list[0].Digest == in.Digest {
		t.Errorf("evidence %v, %v", list, err)
	}
	x.logged("level=WARN", "1.2.3.7")
}
