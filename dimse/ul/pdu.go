package ul

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// PDU types, PS3.8 9.3.1.
const (
	typeAssociateRQ = 0x01
	typeAssociateAC = 0x02
	typeAssociateRJ = 0x03
	typeData        = 0x04
	typeReleaseRQ   = 0x05
	typeReleaseRP   = 0x06
	typeAbort       = 0x07
)

const (
	headerLen    = 6  // PDU type, reserved, length
	pdvHeaderLen = 6  // PDV length, presentation context ID, message control header
	fixedLen     = 68 // what precedes the variable items of A-ASSOCIATE-RQ and -AC

	// ApplicationContext is the one application context name there is, PS3.7 A.2.1.
	ApplicationContext = "1.2.840.10008.3.1.1.1"
)

// Variable item types of A-ASSOCIATE-RQ and -AC, PS3.8 9.3.2 and 9.3.3, PS3.7 D.3.3.
const (
	itemApplicationContext = 0x10
	itemContextRQ          = 0x20
	itemContextAC          = 0x21
	itemAbstractSyntax     = 0x30
	itemTransferSyntax     = 0x40
	itemUserInformation    = 0x50
	itemMaxLength          = 0x51
	itemImplementationUID  = 0x52
	itemAsyncWindow        = 0x53
	itemRole               = 0x54
	itemImplementationName = 0x55
	itemExtended           = 0x56
	itemCommonExtended     = 0x57
	itemIdentityRQ         = 0x58
	itemIdentityAC         = 0x59
)

// What a request may make us remember. A peer that knows every transfer syntax and storage class stays below; items that are passed
// over cost nothing and are bounded by the length of the PDU alone.
const (
	maxSyntaxes = 128 * 64 // transfer syntaxes of all presentation contexts
	maxSubItems = 1024     // roles, extended negotiations and related classes, PS3.7 D.3.3
)

var errMalformed = errors.New("malformed PDU")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
}

// An AETitle is the 16 bytes of an application entity title as they travel: padded with spaces, PS3.8 9.3.2.
type AETitle [16]byte

// NewAETitle pads s to 16 bytes; it must be a valid value of VR AE, PS3.5 Table 6.2-1.
func NewAETitle(s string) (AETitle, error) {
	var t AETitle
	if len(s) > len(t) {
		return t, fmt.Errorf("AE title %q is longer than 16 characters", s)
	}
	copy(t[:], "                ")
	copy(t[:], s)
	if !t.Valid() {
		return t, fmt.Errorf("AE title %q is not valid: use 1 to 16 printable ASCII characters, no backslash, not only spaces", s)
	}
	return t, nil
}

// String is the title without its padding: leading and trailing spaces have no meaning, PS3.5 Table 6.2-1.
// Peers that pad with NUL are understood.
func (t AETitle) String() string {
	return strings.Trim(strings.TrimRight(string(t[:]), "\x00"), " ")
}

// Valid says whether the title has a character to show and none that VR AE forbids, PS3.5 Table 6.2-1.
func (t AETitle) Valid() bool {
	s := t.String()
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e || c == '\\' {
			return false
		}
	}
	return s != ""
}

// An AssociateRQ is the A-ASSOCIATE-RQ PDU, PS3.8 9.3.2.
type AssociateRQ struct {
	ProtocolVersion    uint16
	Called, Calling    AETitle
	ApplicationContext string
	Contexts           []ProposedContext
	User               UserInformation
}

// An AssociateAC is the A-ASSOCIATE-AC PDU, PS3.8 9.3.3. The titles are echoed and mean nothing there.
type AssociateAC struct {
	ProtocolVersion    uint16
	Called, Calling    AETitle
	ApplicationContext string
	Contexts           []ContextResult
	User               UserInformation
}

// A ProposedContext is a presentation context item of A-ASSOCIATE-RQ, PS3.8 9.3.2.2.
type ProposedContext struct {
	ID               uint8
	AbstractSyntax   string
	TransferSyntaxes []string
}

// Result of the negotiation of one presentation context, PS3.8 Table 9-18.
type Result uint8

// PS3.8 Table 9-18, Result/Reason.
const (
	Acceptance                   Result = 0
	UserRejection                Result = 1
	NoReason                     Result = 2
	AbstractSyntaxNotSupported   Result = 3
	TransferSyntaxesNotSupported Result = 4
)

func (r Result) String() string {
	switch r {
	case Acceptance:
		return "accepted"
	case UserRejection:
		return "rejected by the user"
	case NoReason:
		return "rejected by the provider without a reason"
	case AbstractSyntaxNotSupported:
		return "SOP class not supported"
	case TransferSyntaxesNotSupported:
		return "transfer syntaxes not supported"
	}
	return fmt.Sprintf("result %d", uint8(r))
}

// A ContextResult is a presentation context item of A-ASSOCIATE-AC, PS3.8 9.3.3.2.
// The transfer syntax has a meaning only where Result is Acceptance.
type ContextResult struct {
	ID             uint8
	Result         Result
	TransferSyntax string
}

// UserInformation is the user information item, PS3.8 9.3.2.3, with the sub-items of PS3.7 D.3.3.
// Sub-items of other types are passed over, as PS3.8 9.3.1 asks.
type UserInformation struct {
	MaxLength                 uint32 // longest P-DATA-TF variable field its sender wants to receive; 0 = no limit
	ImplementationClassUID    string
	ImplementationVersionName string
	Window                    *AsyncWindow
	Roles                     []Role
	Extended                  []Extended
	CommonExtended            []CommonExtended
	Identity                  *Identity // A-ASSOCIATE-RQ only
	IdentityResponse          []byte    // A-ASSOCIATE-AC only; nil = no such item
}

// An AsyncWindow is the asynchronous operations window, PS3.7 D.3.3.3. 0 = no limit.
type AsyncWindow struct{ Invoked, Performed uint16 }

// A Role is an SCP/SCU role selection, PS3.7 D.3.3.4.
type Role struct {
	SOPClass string
	SCU, SCP bool
}

// Extended is a SOP class extended negotiation, PS3.7 D.3.3.5.
type Extended struct {
	SOPClass string
	Info     []byte
}

// CommonExtended is a SOP class common extended negotiation, PS3.7 D.3.3.6.
type CommonExtended struct {
	SOPClass, ServiceClass string
	Related                []string
}

// An Identity is a user identity negotiation, PS3.7 D.3.3.7. Its fields may be secrets: they are never logged.
type Identity struct {
	Type               uint8
	ResponseRequested  bool
	Primary, Secondary []byte
}

// String keeps passcodes out of logs.
func (Identity) String() string { return "user identity" }

// AppendTo appends the PDU to b.
func (rq *AssociateRQ) AppendTo(b []byte) []byte {
	b, done := openPDU(b, typeAssociateRQ)
	b = appendFixed(b, rq.ProtocolVersion, rq.Called, rq.Calling)
	b = appendItem(b, itemApplicationContext, rq.ApplicationContext)
	for _, c := range rq.Contexts {
		b = openItem(b, itemContextRQ, func(b []byte) []byte {
			b = append(b, c.ID, 0, 0, 0)
			b = appendItem(b, itemAbstractSyntax, c.AbstractSyntax)
			for _, ts := range c.TransferSyntaxes {
				b = appendItem(b, itemTransferSyntax, ts)
			}
			return b
		})
	}
	return done(rq.User.appendTo(b))
}

// AppendTo appends the PDU to b.
func (ac *AssociateAC) AppendTo(b []byte) []byte {
	b, done := openPDU(b, typeAssociateAC)
	b = appendFixed(b, ac.ProtocolVersion, ac.Called, ac.Calling)
	b = appendItem(b, itemApplicationContext, ac.ApplicationContext)
	for _, c := range ac.Contexts {
		b = openItem(b, itemContextAC, func(b []byte) []byte {
			b = append(b, c.ID, 0, uint8(c.Result), 0)
			return appendItem(b, itemTransferSyntax, c.TransferSyntax)
		})
	}
	return done(ac.User.appendTo(b))
}

func (u *UserInformation) appendTo(b []byte) []byte {
	return openItem(b, itemUserInformation, func(b []byte) []byte {
		b = openItem(b, itemMaxLength, func(b []byte) []byte { return binary.BigEndian.AppendUint32(b, u.MaxLength) })
		if u.ImplementationClassUID != "" {
			b = appendItem(b, itemImplementationUID, u.ImplementationClassUID)
		}
		if w := u.Window; w != nil {
			b = openItem(b, itemAsyncWindow, func(b []byte) []byte {
				return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, w.Invoked), w.Performed)
			})
		}
		for _, r := range u.Roles {
			b = openItem(b, itemRole, func(b []byte) []byte {
				return append(appendField(b, r.SOPClass), bit(r.SCU), bit(r.SCP))
			})
		}
		if u.ImplementationVersionName != "" {
			b = appendItem(b, itemImplementationName, u.ImplementationVersionName)
		}
		for _, e := range u.Extended {
			b = openItem(b, itemExtended, func(b []byte) []byte { return append(appendField(b, e.SOPClass), e.Info...) })
		}
		for _, e := range u.CommonExtended {
			b = openItem(b, itemCommonExtended, func(b []byte) []byte {
				b = appendField(appendField(b, e.SOPClass), e.ServiceClass)
				var related []byte
				for _, uid := range e.Related {
					related = appendField(related, uid)
				}
				return appendField(b, string(related))
			})
		}
		if id := u.Identity; id != nil {
			b = openItem(b, itemIdentityRQ, func(b []byte) []byte {
				b = append(b, id.Type, bit(id.ResponseRequested))
				return appendField(appendField(b, string(id.Primary)), string(id.Secondary))
			})
		}
		if u.IdentityResponse != nil {
			b = openItem(b, itemIdentityAC, func(b []byte) []byte { return appendField(b, string(u.IdentityResponse)) })
		}
		return b
	})
}

// openPDU appends the header of a PDU; done, called with all of it, fills in its length.
func openPDU(b []byte, typ byte) (_ []byte, done func([]byte) []byte) {
	start := len(b)
	return append(b, typ, 0, 0, 0, 0, 0), func(b []byte) []byte {
		binary.BigEndian.PutUint32(b[start+2:], uint32(len(b)-start-headerLen))
		return b
	}
}

func appendFixed(b []byte, version uint16, called, calling AETitle) []byte {
	b = binary.BigEndian.AppendUint16(b, version)
	b = append(b, 0, 0)
	b = append(b, called[:]...)
	b = append(b, calling[:]...)
	return append(b, make([]byte, 32)...)
}

func openItem(b []byte, typ byte, body func([]byte) []byte) []byte {
	start := len(b)
	b = body(append(b, typ, 0, 0, 0))
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start-4))
	return b
}

func appendItem(b []byte, typ byte, s string) []byte {
	return openItem(b, typ, func(b []byte) []byte { return append(b, s...) })
}

// appendField appends a field that bears its own two byte length.
func appendField(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func bit(v bool) byte {
	if v {
		return 1
	}
	return 0
}

// decodeAssociateRQ decodes what follows the six bytes of the PDU header.
func decodeAssociateRQ(b []byte) (*AssociateRQ, error) {
	if len(b) < fixedLen {
		return nil, malformed("A-ASSOCIATE-RQ of %d bytes", len(b))
	}
	rq := &AssociateRQ{ProtocolVersion: binary.BigEndian.Uint16(b), Called: AETitle(b[4:20]), Calling: AETitle(b[20:36])}
	var seen [256]bool
	syntaxes := 0
	err := items(b[fixedLen:], func(typ byte, b []byte) error {
		switch typ {
		case itemApplicationContext:
			rq.ApplicationContext = uid(b)
		case itemContextRQ:
			c, err := decodeProposedContext(b, maxSyntaxes-syntaxes)
			if err != nil {
				return err
			}
			syntaxes += len(c.TransferSyntaxes)
			if c.ID%2 == 0 || seen[c.ID] { // PS3.8 9.3.2.2: odd, and unique within the PDU
				return malformed("presentation context ID %d is even or used twice", c.ID)
			}
			seen[c.ID] = true
			rq.Contexts = append(rq.Contexts, c)
		case itemUserInformation:
			rq.User = UserInformation{}
			return rq.User.decode(b)
		}
		return nil
	})
	return rq, err
}

// decodeAssociateAC decodes what follows the six bytes of the PDU header.
func decodeAssociateAC(b []byte) (*AssociateAC, error) {
	if len(b) < fixedLen {
		return nil, malformed("A-ASSOCIATE-AC of %d bytes", len(b))
	}
	ac := &AssociateAC{ProtocolVersion: binary.BigEndian.Uint16(b), Called: AETitle(b[4:20]), Calling: AETitle(b[20:36])}
	var seen [256]bool
	err := items(b[fixedLen:], func(typ byte, b []byte) error {
		switch typ {
		case itemApplicationContext:
			ac.ApplicationContext = uid(b)
		case itemContextAC:
			if len(b) < 4 {
				return malformed("presentation context item of %d bytes", len(b))
			}
			c := ContextResult{ID: b[0], Result: Result(b[2])}
			if seen[c.ID] {
				return malformed("presentation context ID %d is used twice", c.ID)
			}
			seen[c.ID] = true
			ac.Contexts = append(ac.Contexts, c)
			return items(b[4:], func(typ byte, b []byte) error {
				if typ == itemTransferSyntax {
					ac.Contexts[len(ac.Contexts)-1].TransferSyntax = uid(b)
				}
				return nil
			})
		case itemUserInformation:
			ac.User = UserInformation{}
			return ac.User.decode(b)
		}
		return nil
	})
	return ac, err
}

func decodeProposedContext(b []byte, most int) (ProposedContext, error) {
	if len(b) < 4 {
		return ProposedContext{}, malformed("presentation context item of %d bytes", len(b))
	}
	c := ProposedContext{ID: b[0]}
	err := items(b[4:], func(typ byte, b []byte) error {
		switch typ {
		case itemAbstractSyntax:
			c.AbstractSyntax = uid(b)
		case itemTransferSyntax:
			if len(c.TransferSyntaxes) == most {
				return malformed("more than %d transfer syntaxes", maxSyntaxes)
			}
			c.TransferSyntaxes = append(c.TransferSyntaxes, uid(b))
		}
		return nil
	})
	return c, err
}

func (u *UserInformation) decode(b []byte) error {
	kept := 0
	return items(b, func(typ byte, b []byte) error {
		switch typ {
		case itemRole, itemExtended, itemCommonExtended:
			if kept++; kept > maxSubItems {
				return malformed("more than %d roles and extended negotiations", maxSubItems)
			}
		}
		f := fields{b: b}
		switch typ {
		case itemMaxLength:
			u.MaxLength = f.uint32()
		case itemImplementationUID:
			u.ImplementationClassUID = uid(b)
		case itemAsyncWindow:
			u.Window = &AsyncWindow{Invoked: f.uint16(), Performed: f.uint16()}
		case itemRole:
			u.Roles = append(u.Roles, Role{SOPClass: uid(f.field()), SCU: f.byte() == 1, SCP: f.byte() == 1})
		case itemImplementationName:
			u.ImplementationVersionName = strings.Trim(string(b), " \x00")
		case itemExtended:
			u.Extended = append(u.Extended, Extended{SOPClass: uid(f.field()), Info: clone(f.b)})
		case itemCommonExtended:
			e := CommonExtended{SOPClass: uid(f.field()), ServiceClass: uid(f.field())}
			related := fields{b: f.field()}
			for len(related.b) > 0 && !related.short {
				if kept++; kept > maxSubItems {
					return malformed("more than %d roles and extended negotiations", maxSubItems)
				}
				e.Related = append(e.Related, uid(related.field()))
			}
			f.short = f.short || related.short
			u.CommonExtended = append(u.CommonExtended, e)
		case itemIdentityRQ:
			u.Identity = &Identity{Type: f.byte(), ResponseRequested: f.byte() == 1, Primary: clone(f.field()), Secondary: clone(f.field())}
		case itemIdentityAC:
			u.IdentityResponse = clone(f.field())
		}
		if f.short {
			return malformed("user information sub-item %02XH is shorter than its fields", typ)
		}
		return nil
	})
}

// items calls yield for each item of b: type, reserved byte, two bytes of length, value.
func items(b []byte, yield func(typ byte, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return malformed("%d bytes left where an item begins", len(b))
		}
		typ, n := b[0], int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b)-4 {
			return malformed("item %02XH announces %d bytes and has %d", typ, n, len(b)-4)
		}
		if err := yield(typ, b[4:4+n]); err != nil {
			return err
		}
		b = b[4+n:]
	}
	return nil
}

// fields reads the fields of a sub-item; short is set where it ends too early.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if n > len(f.b) {
		f.short, f.b = true, nil
		return nil
	}
	v := f.b[:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) byte() byte {
	if v := f.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (f *fields) uint16() uint16 {
	if v := f.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (f *fields) uint32() uint32 {
	if v := f.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (f *fields) field() []byte { return f.take(int(f.uint16())) }

// clone copies out of the receive buffer; the result is never nil.
func clone(b []byte) []byte { return append([]byte{}, b...) }

// uid is a UID without padding: PS3.8 Annex F has none in items, but peers send NUL or space.
func uid(b []byte) string { return strings.TrimRight(string(b), "\x00 ") }

// DataHeaderLen is the length of the two headers in front of the payload of a P-DATA-TF PDU that holds one PDV.
const DataHeaderLen = headerLen + pdvHeaderLen

// PutPDVHeader writes the headers of a P-DATA-TF PDU whose one PDV is a data set fragment of n bytes, PS3.8 9.3.5.
func PutPDVHeader(b []byte, context uint8, last bool, n int) {
	putPDVHeader(b, context, bit(last)*controlLast, n)
}

func putPDVHeader(b []byte, context uint8, control byte, n int) {
	b[0], b[1] = typeData, 0
	binary.BigEndian.PutUint32(b[2:], uint32(n+pdvHeaderLen))
	binary.BigEndian.PutUint32(b[headerLen:], uint32(n+2))
	b[10], b[11] = context, control
}

// Message control header, PS3.8 E.2.
const (
	controlCommand = 0x01
	controlLast    = 0x02
)
