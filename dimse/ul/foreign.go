package ul

import "bytes"

// foreign lists how connections of other protocols begin. Ports get mixed up; the log should say so.
var foreign = []struct{ prefix, protocol string }{
	{"\x16\x03", "TLS"}, {"\x15\x03", "TLS"}, // a handshake; an alert, with which a TLS port answers what is none
	{"\x0b", "HL7 (MLLP)"},
	{"MSH|", "HL7"},
	{"SSH-", "SSH"},
	{"GET ", "HTTP"}, {"POST ", "HTTP"}, {"PUT ", "HTTP"}, {"HEAD ", "HTTP"}, {"DELETE ", "HTTP"},
	{"OPTIONS ", "HTTP"}, {"PATCH ", "HTTP"}, {"CONNECT ", "HTTP"}, {"TRACE ", "HTTP"}, {"PRI ", "HTTP"}, {"HTTP/", "HTTP"},
	{"PROXY ", "PROXY (of a load balancer)"}, {"\r\n\r\n\x00\r\nQUIT\n", "PROXY (of a load balancer)"},
	{"EHLO ", "SMTP"}, {"HELO ", "SMTP"}, {"220", "SMTP or FTP"},
}

// foreignProtocol names the protocol that b begins like, or "". b holds what arrived so far, at least one byte.
func foreignProtocol(b []byte) string {
	for _, f := range foreign {
		if n := min(len(f.prefix), len(b)); bytes.Equal(b[:n], []byte(f.prefix[:n])) {
			return f.protocol
		}
	}
	return ""
}

// Protocol names what a connection that begins with b speaks, or "".
func Protocol(b []byte) string {
	if len(b) > 1 && b[0] >= typeAssociateRQ && b[0] <= typeAbort && b[1] == 0 { // PDU type and a reserved byte, PS3.8 9.3.1
		return "DICOM"
	}
	if len(b) == 0 {
		return ""
	}
	return foreignProtocol(b)
}
