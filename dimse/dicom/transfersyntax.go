package dicom

// A TransferSyntax says how the bytes of a data set are laid out: PS3.5 10 and Annex A.
type TransferSyntax struct {
	UID, Name    string
	BigEndian    bool
	ExplicitVR   bool
	Encapsulated bool // Pixel Data is a sequence of fragments: PS3.5 A.4
	Deflated     bool // the whole data set is one deflate stream: PS3.5 A.5
	Decodable    bool // radnode can read the samples of the pixel data, too
	Lossy        bool // its pixels may be irreversibly compressed: PS3.5 8.2; whether they are, the codestream says
}

// The transfer syntaxes that radnode writes or that need no codec.
const (
	ImplicitVRLittleEndian         = "1.2.840.10008.1.2"
	ExplicitVRLittleEndian         = "1.2.840.10008.1.2.1"
	DeflatedExplicitVRLittleEndian = "1.2.840.10008.1.2.1.99"
	ExplicitVRBigEndian            = "1.2.840.10008.1.2.2"
)

// gePrivateDLX is what GE Advantage stations propose: implicit VR little endian but for Pixel Data, which is big endian.
const gePrivateDLX = "1.2.840.113619.5.2"

// transferSyntaxes is PS3.6 Table A-1 as far as a data set can be stored in it (2025a), retired ones too, in the order
// of their UIDs. JPIP leaves the pixels on a server, and the SMPTE ones only go with real-time video, PS3.22. RFC 2557 MIME, XML
// and Papyrus, which never carried a data set over a network, are left out.
var transferSyntaxes = [...]TransferSyntax{
	{UID: "1.2.840.10008.1.2", Name: "Implicit VR Little Endian", Decodable: true},
	{UID: "1.2.840.10008.1.2.1", Name: "Explicit VR Little Endian", ExplicitVR: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.1.98", Name: "Encapsulated Uncompressed Explicit VR Little Endian", ExplicitVR: true, Encapsulated: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.1.99", Name: "Deflated Explicit VR Little Endian", ExplicitVR: true, Deflated: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.2", Name: "Explicit VR Big Endian", BigEndian: true, ExplicitVR: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.4.50", Name: "JPEG Baseline (Process 1)", ExplicitVR: true, Encapsulated: true, Decodable: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.51", Name: "JPEG Extended (Process 2 and 4)", ExplicitVR: true, Encapsulated: true, Decodable: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.52", Name: "JPEG Extended (Process 3 and 5)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.53", Name: "JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.54", Name: "JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.55", Name: "JPEG Full Progression, Non-Hierarchical (Process 10 and 12)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.56", Name: "JPEG Full Progression, Non-Hierarchical (Process 11 and 13)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.57", Name: "JPEG Lossless, Non-Hierarchical (Process 14)", ExplicitVR: true, Encapsulated: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.4.58", Name: "JPEG Lossless, Non-Hierarchical (Process 15)", ExplicitVR: true, Encapsulated: true},
	{UID: "1.2.840.10008.1.2.4.59", Name: "JPEG Extended, Hierarchical (Process 16 and 18)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.60", Name: "JPEG Extended, Hierarchical (Process 17 and 19)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.61", Name: "JPEG Spectral Selection, Hierarchical (Process 20 and 22)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.62", Name: "JPEG Spectral Selection, Hierarchical (Process 21 and 23)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.63", Name: "JPEG Full Progression, Hierarchical (Process 24 and 26)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.64", Name: "JPEG Full Progression, Hierarchical (Process 25 and 27)", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.65", Name: "JPEG Lossless, Hierarchical (Process 28)", ExplicitVR: true, Encapsulated: true},
	{UID: "1.2.840.10008.1.2.4.66", Name: "JPEG Lossless, Hierarchical (Process 29)", ExplicitVR: true, Encapsulated: true},
	{UID: "1.2.840.10008.1.2.4.70", Name: "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])", ExplicitVR: true, Encapsulated: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.4.80", Name: "JPEG-LS Lossless Image Compression", ExplicitVR: true, Encapsulated: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.4.81", Name: "JPEG-LS Lossy (Near-Lossless) Image Compression", ExplicitVR: true, Encapsulated: true, Decodable: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.90", Name: "JPEG 2000 Image Compression (Lossless Only)", ExplicitVR: true, Encapsulated: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.4.91", Name: "JPEG 2000 Image Compression", ExplicitVR: true, Encapsulated: true, Decodable: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.92", Name: "JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)", ExplicitVR: true, Encapsulated: true},
	{UID: "1.2.840.10008.1.2.4.93", Name: "JPEG 2000 Part 2 Multi-component Image Compression", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.94", Name: "JPIP Referenced", ExplicitVR: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.95", Name: "JPIP Referenced Deflate", ExplicitVR: true, Deflated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.100", Name: "MPEG2 Main Profile / Main Level", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.100.1", Name: "Fragmentable MPEG2 Main Profile / Main Level", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.101", Name: "MPEG2 Main Profile / High Level", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.101.1", Name: "Fragmentable MPEG2 Main Profile / High Level", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.102", Name: "MPEG-4 AVC/H.264 High Profile / Level 4.1", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.102.1", Name: "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.103", Name: "MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.103.1", Name: "Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.104", Name: "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.104.1", Name: "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.105", Name: "MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.105.1", Name: "Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.106", Name: "MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.106.1", Name: "Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.107", Name: "HEVC/H.265 Main Profile / Level 5.1", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.108", Name: "HEVC/H.265 Main 10 Profile / Level 5.1", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.110", Name: "JPEG XL Lossless", ExplicitVR: true, Encapsulated: true},
	{UID: "1.2.840.10008.1.2.4.111", Name: "JPEG XL JPEG Recompression", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.112", Name: "JPEG XL", ExplicitVR: true, Encapsulated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.201", Name: "High-Throughput JPEG 2000 Image Compression (Lossless Only)", ExplicitVR: true, Encapsulated: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.4.202", Name: "High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)", ExplicitVR: true, Encapsulated: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.4.203", Name: "High-Throughput JPEG 2000 Image Compression", ExplicitVR: true, Encapsulated: true, Decodable: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.204", Name: "JPIP HTJ2K Referenced", ExplicitVR: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.4.205", Name: "JPIP HTJ2K Referenced Deflate", ExplicitVR: true, Deflated: true, Lossy: true},
	{UID: "1.2.840.10008.1.2.5", Name: "RLE Lossless", ExplicitVR: true, Encapsulated: true, Decodable: true},
	{UID: "1.2.840.10008.1.2.7.1", Name: "SMPTE ST 2110-20 Uncompressed Progressive Active Video", ExplicitVR: true},
	{UID: "1.2.840.10008.1.2.7.2", Name: "SMPTE ST 2110-20 Uncompressed Interlaced Active Video", ExplicitVR: true},
	{UID: "1.2.840.10008.1.2.7.3", Name: "SMPTE ST 2110-30 PCM Digital Audio", ExplicitVR: true},
	{UID: "1.2.840.10008.1.2.8.1", Name: "Deflated Image Frame Compression", ExplicitVR: true, Encapsulated: true, Decodable: true},
	{UID: gePrivateDLX, Name: "GE Private Implicit VR Big Endian DLX"},
}

var transferSyntaxByUID = func() map[string]*TransferSyntax {
	m := make(map[string]*TransferSyntax, len(transferSyntaxes))
	for i := range transferSyntaxes {
		m[transferSyntaxes[i].UID] = &transferSyntaxes[i]
	}
	return m
}()

// LookupTransferSyntax finds a transfer syntax by its UID. One that is not in the table is private, or newer than the
// table: [ReadDataSet] reads it as Explicit VR Little Endian with encapsulated pixel data, which all of them are since 1998
// (PS3.5 A.4).
func LookupTransferSyntax(uid string) (TransferSyntax, bool) {
	ts, ok := transferSyntaxByUID[uid]
	if !ok {
		return TransferSyntax{}, false
	}
	return *ts, true
}

// TransferSyntaxes lists the UIDs of the table.
func TransferSyntaxes() []string {
	uids := make([]string, len(transferSyntaxes))
	for i := range transferSyntaxes {
		uids[i] = transferSyntaxes[i].UID
	}
	return uids
}

// layout is the transfer syntax that rules the bytes of a data set said to be in uid.
func layout(uid string) TransferSyntax {
	ts, ok := LookupTransferSyntax(uid)
	if !ok {
		ts = TransferSyntax{UID: uid, Name: "unknown", ExplicitVR: true, Encapsulated: true}
	}
	return ts
}
