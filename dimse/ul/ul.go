// Package ul carries DICOM messages over TCP: the DICOM upper layer protocol of PS3.8 chapter 9.
//
// Start at [Accept] and [Dial]; both return a [Conn], whose [Conn.Await], [Conn.Next] and [Conn.Read] yield what the
// peer sends, fragment by fragment as it arrives. The state table is state.go, the byte layouts are pdu.go, what a
// refusal or an abort means is reason.go.
//
// Nothing here is allocated by a length that a peer announces: memory grows with bytes that arrived, up to a bound.
package ul
