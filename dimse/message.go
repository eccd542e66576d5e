package dimse

import "fmt"

// CommandField says which message a command is, PS3.7 Table E.1-1, Command Field (0000,0100).
type CommandField uint16

// PS3.7 Annex E.
const (
	CStoreRQ        CommandField = 0x0001
	CStoreRSP       CommandField = 0x8001
	CGetRQ          CommandField = 0x0010
	CFindRQ         CommandField = 0x0020
	CMoveRQ         CommandField = 0x0021
	CEchoRQ         CommandField = 0x0030
	CEchoRSP        CommandField = 0x8030
	NEventReportRQ  CommandField = 0x0100
	NEventReportRSP CommandField = 0x8100
	NGetRQ          CommandField = 0x0110
	NSetRQ          CommandField = 0x0120
	NActionRQ       CommandField = 0x0130
	NActionRSP      CommandField = 0x8130
	NCreateRQ       CommandField = 0x0140
	NDeleteRQ       CommandField = 0x0150
	CCancelRQ       CommandField = 0x0FFF
	responseBit     CommandField = 0x8000
)

func (f CommandField) String() string {
	name, ok := map[CommandField]string{
		CStoreRQ: "C-STORE", CGetRQ: "C-GET", CFindRQ: "C-FIND", CMoveRQ: "C-MOVE", CEchoRQ: "C-ECHO",
		NEventReportRQ: "N-EVENT-REPORT", NGetRQ: "N-GET", NSetRQ: "N-SET", NActionRQ: "N-ACTION",
		NCreateRQ: "N-CREATE", NDeleteRQ: "N-DELETE", CCancelRQ: "C-CANCEL",
	}[f&^responseBit]
	switch {
	case !ok:
		return fmt.Sprintf("command %04XH", uint16(f))
	case f&responseBit != 0:
		return name + "-RSP"
	}
	return name + "-RQ"
}

// A Message is the command of a DIMSE message; what it carries as data set travels behind it.
type Message interface{ elements() commandSet }

// A StoreRequest is C-STORE-RQ, PS3.7 9.3.1.1.
type StoreRequest struct {
	MessageID               uint16
	AffectedSOPClassUID     string
	AffectedSOPInstanceUID  string
	Priority                uint16
	MoveOriginatorAETitle   string // "" = absent
	MoveOriginatorMessageID uint16 // sent only with MoveOriginatorAETitle
	NoDataSet               bool   // against the standard; a peer that does so is told
}

// A StoreResponse is C-STORE-RSP, PS3.7 9.3.1.2.
type StoreResponse struct {
	MessageIDBeingRespondedTo uint16
	AffectedSOPClassUID       string
	AffectedSOPInstanceUID    string
	Status                    Status
}

// An EchoRequest is C-ECHO-RQ, PS3.7 9.3.5.1.
type EchoRequest struct {
	MessageID           uint16
	AffectedSOPClassUID string
	HasDataSet          bool // against the standard; passed over
}

// An EchoResponse is C-ECHO-RSP, PS3.7 9.3.5.2.
type EchoResponse struct {
	MessageIDBeingRespondedTo uint16
	AffectedSOPClassUID       string
	Status                    Status
}

// A CancelRequest is C-CANCEL-RQ, PS3.7 9.3.2.3.
type CancelRequest struct{ MessageIDBeingRespondedTo uint16 }

// An EventReportRequest is N-EVENT-REPORT-RQ, PS3.7 10.3.1.1.
type EventReportRequest struct {
	MessageID              uint16
	AffectedSOPClassUID    string
	AffectedSOPInstanceUID string
	EventTypeID            uint16
	HasDataSet             bool // Event Information
}

// An EventReportResponse is N-EVENT-REPORT-RSP, PS3.7 10.3.1.2.
type EventReportResponse struct {
	MessageIDBeingRespondedTo uint16
	AffectedSOPClassUID       string
	AffectedSOPInstanceUID    string
	EventTypeID               uint16 // 0 = absent
	Status                    Status
	HasDataSet                bool // Event Reply
}

// An ActionRequest is N-ACTION-RQ, PS3.7 10.3.5.1.
type ActionRequest struct {
	MessageID               uint16
	RequestedSOPClassUID    string
	RequestedSOPInstanceUID string
	ActionTypeID            uint16
	HasDataSet              bool // Action Information
}

// An ActionResponse is N-ACTION-RSP, PS3.7 10.3.5.2.
type ActionResponse struct {
	MessageIDBeingRespondedTo uint16
	AffectedSOPClassUID       string
	AffectedSOPInstanceUID    string
	ActionTypeID              uint16 // 0 = absent
	Status                    Status
	HasDataSet                bool // Action Reply
}

// A Request is any request that has no type of its own here.
type Request struct {
	Field          CommandField
	MessageID      uint16
	SOPClassUID    string // affected or requested
	SOPInstanceUID string // affected or requested
	HasDataSet     bool
}

// A Response is any response that has no type of its own here. Its status is all that an answer to an unknown request holds.
type Response struct {
	Field                     CommandField
	MessageIDBeingRespondedTo uint16
	SOPClassUID               string
	SOPInstanceUID            string
	Status                    Status
	HasDataSet                bool
}

func (m *StoreRequest) elements() commandSet {
	var c commandSet
	c.uid(tagAffectedSOPClassUID, m.AffectedSOPClassUID)
	c.uint16(tagCommandField, uint16(CStoreRQ))
	c.uint16(tagMessageID, m.MessageID)
	c.uint16(tagPriority, m.Priority)
	c.dataSet(!m.NoDataSet)
	c.uid(tagAffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
	if m.MoveOriginatorAETitle != "" {
		c.text(tagMoveOriginatorAETitle, m.MoveOriginatorAETitle)
		c.uint16(tagMoveOriginatorMessageID, m.MoveOriginatorMessageID)
	}
	return c
}

func (m *StoreResponse) elements() commandSet {
	var c commandSet
	c.uid(tagAffectedSOPClassUID, m.AffectedSOPClassUID)
	c.uint16(tagCommandField, uint16(CStoreRSP))
	c.uint16(tagMessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	c.dataSet(false)
	c.status(m.Status)
	c.uid(tagAffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
	return c
}

func (m *EchoRequest) elements() commandSet {
	var c commandSet
	c.uid(tagAffectedSOPClassUID, m.AffectedSOPClassUID)
	c.uint16(tagCommandField, uint16(CEchoRQ))
	c.uint16(tagMessageID, m.MessageID)
	c.dataSet(m.HasDataSet)
	return c
}

func (m *EchoResponse) elements() commandSet {
	var c commandSet
	c.uid(tagAffectedSOPClassUID, m.AffectedSOPClassUID)
	c.uint16(tagCommandField, uint16(CEchoRSP))
	c.uint16(tagMessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	c.dataSet(false)
	c.status(m.Status)
	return c
}

func (m *CancelRequest) elements() commandSet {
	var c commandSet
	c.uint16(tagCommandField, uint16(CCancelRQ))
	c.uint16(tagMessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	c.dataSet(false)
	return c
}

func (m *EventReportRequest) elements() commandSet {
	var c commandSet
	c.uid(tagAffectedSOPClassUID, m.AffectedSOPClassUID)
	c.uint16(tagCommandField, uint16(NEventReportRQ))
	c.uint16(tagMessageID, m.MessageID)
	c.dataSet(m.HasDataSet)
	c.uid(tagAffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
	c.uint16(tagEventTypeID, m.EventTypeID)
	return c
}

func (m *EventReportResponse) elements() commandSet {
	var c commandSet
	c.uid(tagAffectedSOPClassUID, m.AffectedSOPClassUID)
	c.uint16(tagCommandField, uint16(NEventReportRSP))
	c.uint16(tagMessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	c.dataSet(m.HasDataSet)
	c.status(m.Status)
	c.uid(tagAffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
	if m.EventTypeID != 0 {
		c.uint16(tagEventTypeID, m.EventTypeID)
	}
	return c
}

func (m *ActionRequest) elements() commandSet {
	var c commandSet
	c.uid(tagRequestedSOPClassUID, m.RequestedSOPClassUID)
	c.uint16(tagCommandField, uint16(NActionRQ))
	c.uint16(tagMessageID, m.MessageID)
	c.dataSet(m.HasDataSet)
	c.uid(tagRequestedSOPInstanceUID, m.RequestedSOPInstanceUID)
	c.uint16(tagActionTypeID, m.ActionTypeID)
	return c
}

func (m *ActionResponse) elements() commandSet {
	var c commandSet
	c.uid(tagAffectedSOPClassUID, m.AffectedSOPClassUID)
	c.uint16(tagCommandField, uint16(NActionRSP))
	c.uint16(tagMessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	c.dataSet(m.HasDataSet)
	c.status(m.Status)
	c.uid(tagAffectedSOPInstanceUID, m.AffectedSOPInstanceUID)
	if m.ActionTypeID != 0 {
		c.uint16(tagActionTypeID, m.ActionTypeID)
	}
	return c
}

// normalised says whether the message belongs to an N-service, PS3.7 10.
func (f CommandField) normalised() bool {
	return f == NEventReportRQ || f == NCreateRQ || f.requested()
}

// requested says whether the message names its SOP class and instance as requested, not as affected, PS3.7 10.3.
func (f CommandField) requested() bool {
	switch f {
	case NGetRQ, NSetRQ, NActionRQ, NDeleteRQ:
		return true
	}
	return false
}

func (m *Request) elements() commandSet {
	class, instance := tagAffectedSOPClassUID, tagAffectedSOPInstanceUID
	if m.Field.requested() {
		class, instance = tagRequestedSOPClassUID, tagRequestedSOPInstanceUID
	}
	var c commandSet
	c.uid(class, m.SOPClassUID)
	c.uint16(tagCommandField, uint16(m.Field))
	c.uint16(tagMessageID, m.MessageID)
	c.dataSet(m.HasDataSet)
	c.uid(instance, m.SOPInstanceUID)
	return c
}

func (m *Response) elements() commandSet {
	var c commandSet
	c.uid(tagAffectedSOPClassUID, m.SOPClassUID)
	c.uint16(tagCommandField, uint16(m.Field))
	c.uint16(tagMessageIDBeingRespondedTo, m.MessageIDBeingRespondedTo)
	c.dataSet(m.HasDataSet)
	c.status(m.Status)
	c.uid(tagAffectedSOPInstanceUID, m.SOPInstanceUID)
	return c
}

// message makes the Go type of a command set.
func (c commandSet) message() (Message, error) {
	field, ok := c.getUint16(tagCommandField)
	if !ok {
		return nil, fmt.Errorf("command has no Command Field (0000,0100)")
	}
	id, _ := c.getUint16(tagMessageID)
	to, _ := c.getUint16(tagMessageIDBeingRespondedTo)
	kind, ok := c.getUint16(tagCommandDataSetType)
	data := ok && kind != noDataSet
	class, instance := c.getText(tagAffectedSOPClassUID), c.getText(tagAffectedSOPInstanceUID)
	code, _ := c.getUint16(tagStatus)
	status := Status{code, comment(c.getText(tagErrorComment))}
	switch f := CommandField(field); {
	case f == CStoreRQ:
		m := &StoreRequest{MessageID: id, AffectedSOPClassUID: class, AffectedSOPInstanceUID: instance, NoDataSet: !data}
		m.Priority, _ = c.getUint16(tagPriority)
		if m.MoveOriginatorAETitle = c.getText(tagMoveOriginatorAETitle); m.MoveOriginatorAETitle != "" {
			m.MoveOriginatorMessageID, _ = c.getUint16(tagMoveOriginatorMessageID)
		}
		return m, nil
	case f == CStoreRSP && !data:
		return &StoreResponse{to, class, instance, status}, nil
	case f == CEchoRQ:
		return &EchoRequest{id, class, data}, nil
	case f == CEchoRSP && !data:
		return &EchoResponse{to, class, status}, nil
	case f == CCancelRQ:
		return &CancelRequest{to}, nil
	case f == NEventReportRQ:
		event, _ := c.getUint16(tagEventTypeID)
		return &EventReportRequest{id, class, instance, event, data}, nil
	case f == NEventReportRSP:
		event, _ := c.getUint16(tagEventTypeID)
		return &EventReportResponse{to, class, instance, event, status, data}, nil
	case f == NActionRQ:
		action, _ := c.getUint16(tagActionTypeID)
		return &ActionRequest{id, c.getText(tagRequestedSOPClassUID), c.getText(tagRequestedSOPInstanceUID), action, data}, nil
	case f == NActionRSP:
		action, _ := c.getUint16(tagActionTypeID)
		return &ActionResponse{to, class, instance, action, status, data}, nil
	case f&responseBit != 0:
		return &Response{f, to, class, instance, status, data}, nil
	default:
		if f.requested() {
			class, instance = c.getText(tagRequestedSOPClassUID), c.getText(tagRequestedSOPInstanceUID)
		}
		return &Request{f, id, class, instance, data}, nil
	}
}
