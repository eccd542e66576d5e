// Package dimse exchanges DICOM messages with peers: the services of PS3.7 over the upper layer in dimse/ul.
//
// Receiving starts at [Server.Serve], sending at [Dial]. Who may talk, and how much, is decided by [Access] alone. The messages
// are Go types in message.go, their bytes are in command.go, what a status means is in status.go. A data set is never held: it
// streams from the connection to [Storage] as the peer's fragments arrive, and from the caller's reader to the connection.
// Storage Commitment is commitment.go.
package dimse
