package dicom

// A VR is a value representation of PS3.5 6.2: its two letters.
type VR uint16

// The value representations of PS3.5 Table 6.2-1.
const (
	AE VR = 'A'<<8 | 'E'
	AS VR = 'A'<<8 | 'S'
	AT VR = 'A'<<8 | 'T'
	CS VR = 'C'<<8 | 'S'
	DA VR = 'D'<<8 | 'A'
	DS VR = 'D'<<8 | 'S'
	DT VR = 'D'<<8 | 'T'
	FD VR = 'F'<<8 | 'D'
	FL VR = 'F'<<8 | 'L'
	IS VR = 'I'<<8 | 'S'
	LO VR = 'L'<<8 | 'O'
	LT VR = 'L'<<8 | 'T'
	OB VR = 'O'<<8 | 'B'
	OD VR = 'O'<<8 | 'D'
	OF VR = 'O'<<8 | 'F'
	OL VR = 'O'<<8 | 'L'
	OV VR = 'O'<<8 | 'V'
	OW VR = 'O'<<8 | 'W'
	PN VR = 'P'<<8 | 'N'
	SH VR = 'S'<<8 | 'H'
	SL VR = 'S'<<8 | 'L'
	SQ VR = 'S'<<8 | 'Q'
	SS VR = 'S'<<8 | 'S'
	ST VR = 'S'<<8 | 'T'
	SV VR = 'S'<<8 | 'V'
	TM VR = 'T'<<8 | 'M'
	UC VR = 'U'<<8 | 'C'
	UI VR = 'U'<<8 | 'I'
	UL VR = 'U'<<8 | 'L'
	UN VR = 'U'<<8 | 'N'
	UR VR = 'U'<<8 | 'R'
	US VR = 'U'<<8 | 'S'
	UT VR = 'U'<<8 | 'T'
	UV VR = 'U'<<8 | 'V'
)

// vrInfo is what a reader and a writer must know of a VR.
type vrInfo struct {
	long    bool // 12-byte header in the explicit forms: PS3.5 Table 7.1-1
	text    bool // a character string
	charset bool // its characters follow Specific Character Set: PS3.5 6.1.2.2
	single  bool // a backslash is a character and not a delimiter: PS3.5 6.4
	word    int  // bytes that change places with the byte order: PS3.5 7.3
	max     int  // longest value: characters for a charset VR, bytes for the others; 0 = no limit but 2^32-2
	pad     byte // the padding to an even length
}

// vrs is PS3.5 Table 6.2-1, with the header forms of Tables 7.1-1 and 7.1-2.
var vrs = map[VR]vrInfo{
	AE: {text: true, word: 1, max: 16, pad: ' '},
	AS: {text: true, word: 1, max: 4, pad: ' '},
	AT: {word: 2},
	CS: {text: true, word: 1, max: 16, pad: ' '},
	DA: {text: true, word: 1, max: 8, pad: ' '},
	DS: {text: true, word: 1, max: 16, pad: ' '},
	DT: {text: true, word: 1, max: 26, pad: ' '},
	FD: {word: 8},
	FL: {word: 4},
	IS: {text: true, word: 1, max: 12, pad: ' '},
	LO: {text: true, charset: true, word: 1, max: 64, pad: ' '},
	LT: {text: true, charset: true, single: true, word: 1, max: 10240, pad: ' '},
	OB: {long: true, word: 1},
	OD: {long: true, word: 8},
	OF: {long: true, word: 4},
	OL: {long: true, word: 4},
	OV: {long: true, word: 8},
	OW: {long: true, word: 2},
	PN: {text: true, charset: true, word: 1, max: 64, pad: ' '}, // for each component group
	SH: {text: true, charset: true, word: 1, max: 16, pad: ' '},
	SL: {word: 4},
	SQ: {long: true},
	SS: {word: 2},
	ST: {text: true, charset: true, single: true, word: 1, max: 1024, pad: ' '},
	SV: {long: true, word: 8},
	TM: {text: true, word: 1, max: 14, pad: ' '},
	UC: {long: true, text: true, charset: true, word: 1, pad: ' '},
	UI: {text: true, word: 1, max: 64},
	UL: {word: 4},
	UN: {long: true, word: 1},
	UR: {long: true, text: true, single: true, word: 1, pad: ' '},
	US: {word: 2},
	UT: {long: true, text: true, charset: true, single: true, word: 1, pad: ' '},
	UV: {long: true, word: 8},
}

// String returns the two letters.
func (v VR) String() string { return string([]byte{byte(v >> 8), byte(v)}) }

func parseVR(s string) VR { return VR(s[0])<<8 | VR(s[1]) }

func (v VR) known() bool { _, ok := vrs[v]; return ok }
