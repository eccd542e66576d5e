package ul

import "bytes"

// foreign lists how connections of other protocols begin. Ports get mixed up; the log should say so.
var foreign = []struct{ prefix, protocol string }{
	{"\x16\x03", "TLS"},
	{"\x0b", "HL7 (MLLP)"},
	{"MSH|", "HL7"},
	{"SSH-", "SSH"},
	{"GET ", "HTTP"}, {"POST ", "HTTP"}, {"PUT ", "HTTP"}, {"HEAD ", "HTTP"}, {"DELETE ", "HTTP"},
	{"OPTIONS ", "HTTP"}, {"PATCH ", "HTTP"}, {"CONNECT ", "HTTP"}, {"TRACE ", "HTTP"}, {"PRI ", "HTTP"},
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
