package dimse

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Elements of the command group 0000, PS3.7 Table E.1-1. Only the element number: the group is always zero.
const (
	tagCommandGroupLength        uint16 = 0x0000
	tagAffectedSOPClassUID       uint16 = 0x0002
	tagRequestedSOPClassUID      uint16 = 0x0003
	tagCommandField              uint16 = 0x0100
	tagMessageID                 uint16 = 0x0110
	tagMessageIDBeingRespondedTo uint16 = 0x0120
	tagPriority                  uint16 = 0x0700
	tagCommandDataSetType        uint16 = 0x0800
	tagStatus                    uint16 = 0x0900
	tagErrorComment              uint16 = 0x0902
	tagAffectedSOPInstanceUID    uint16 = 0x1000
	tagRequestedSOPInstanceUID   uint16 = 0x1001
	tagEventTypeID               uint16 = 0x1002
	tagActionTypeID              uint16 = 0x1008
	tagMoveOriginatorAETitle     uint16 = 0x1030
	tagMoveOriginatorMessageID   uint16 = 0x1031
)

// noDataSet is the value of Command Data Set Type (0000,0800) that says no data set follows; any other says one does.
const noDataSet = 0x0101

// maxCommand bounds a command. The longest of the standard has some hundred bytes; C-MOVE's and N-GET's lists may add a few thousand.
const maxCommand = 64 << 10

// A commandSet is the elements of a command, always Implicit VR Little Endian, PS3.7 6.3.1.
type commandSet []commandElement

type commandElement struct {
	tag   uint16
	value []byte
}

// encodeCommand gives the bytes of a command with its group length first.
func encodeCommand(m Message) []byte {
	c := m.elements()
	slices.SortFunc(c, func(a, b commandElement) int { return int(a.tag) - int(b.tag) })
	b := make([]byte, 12, 256)
	for _, e := range c {
		b = binary.LittleEndian.AppendUint16(b, 0)
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(e.value)))
		b = append(b, e.value...)
	}
	b[4] = 4
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-12))
	return b
}

// decodeCommand makes a message of the bytes of a command. Command Group Length is not trusted: some peers have it wrong.
func decodeCommand(b []byte) (Message, error) {
	var c commandSet
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, fmt.Errorf("command: %d bytes left where an element begins", len(b))
		}
		group, element, n := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), binary.LittleEndian.Uint32(b[4:])
		if group != 0 {
			return nil, fmt.Errorf("command: element (%04X,%04X) is not of the command group", group, element)
		}
		if uint64(n) > uint64(len(b)-8) {
			return nil, fmt.Errorf("command: element (0000,%04X) announces %d bytes and has %d", element, n, len(b)-8)
		}
		if element != tagCommandGroupLength {
			c = append(c, commandElement{element, b[8 : 8+n]})
		}
		b = b[8+n:]
	}
	return c.message()
}

func (c *commandSet) uint16(tag, v uint16) {
	*c = append(*c, commandElement{tag, binary.LittleEndian.AppendUint16(nil, v)})
}

func (c *commandSet) dataSet(follows bool) {
	kind := uint16(noDataSet)
	if follows {
		kind = 0x0001
	}
	c.uint16(tagCommandDataSetType, kind)
}

// uid adds a UID padded with NUL to even length, PS3.5 9.1; an empty one is left out.
func (c *commandSet) uid(tag uint16, v string) { c.padded(tag, v, 0) }

// text adds a text padded with a space to even length, PS3.5 6.2; an empty one is left out.
func (c *commandSet) text(tag uint16, v string) { c.padded(tag, v, ' ') }

func (c *commandSet) padded(tag uint16, v string, pad byte) {
	if v == "" {
		return
	}
	value := []byte(v)
	if len(value)%2 != 0 {
		value = append(value, pad)
	}
	*c = append(*c, commandElement{tag, value})
}

func (c *commandSet) status(s Status) {
	c.uint16(tagStatus, s.Code)
	c.text(tagErrorComment, comment(s.Comment))
}

func (c commandSet) get(tag uint16) []byte {
	for _, e := range c {
		if e.tag == tag {
			return e.value
		}
	}
	return nil
}

func (c commandSet) getUint16(tag uint16) (uint16, bool) {
	if v := c.get(tag); len(v) >= 2 {
		return binary.LittleEndian.Uint16(v), true
	}
	return 0, false
}

// getText gives a text or UID without its padding.
func (c commandSet) getText(tag uint16) string {
	return strings.TrimRight(string(c.get(tag)), "\x00 ")
}
