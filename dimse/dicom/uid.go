package dicom

import (
	"crypto/sha256"
	"encoding/binary"
	"math/big"

	"github.com/suyashkumar/dicom/pkg/uid"
)

// What radnode writes into File Meta Information, PS3.10 7.1. The UID is UIDFrom("radnode").
const (
	ImplementationClassUID    = "2.25.12971320334584943937002514869499985502"
	ImplementationVersionName = "RADNODE_1"
)

// UIDFrom makes the same UID of the same parts, and different ones of different parts: "2.25." and a UUID in decimal
// (PS3.5 B.2) whose bits are SHA-256 over the parts, each after its length. The UUID is of version 8 (RFC 9562 5.8).
func UIDFrom(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write([]byte(p))
	}
	u := h.Sum(nil)[:16]
	u[6] = u[6]&0x0F | 0x80
	u[8] = u[8]&0x3F | 0x80
	return "2.25." + new(big.Int).SetBytes(u).String()
}

// ValidUID reports whether s obeys PS3.5 9.1: components of digits without leading zeros, 64 characters at most.
func ValidUID(s string) bool { return uidOf(s, false) }

// AcceptableUID is ValidUID but for leading zeros: some devices write them, and their images must still be kept and named.
func AcceptableUID(s string) bool { return uidOf(s, true) }

func uidOf(s string, zeros bool) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	start := 0
	for i := 0; i <= len(s); i++ {
		switch {
		case i == len(s) || s[i] == '.':
			if n := i - start; n == 0 || n > 1 && s[start] == '0' && !zeros {
				return false
			}
			start = i + 1
		case s[i] < '0' || s[i] > '9':
			return false
		}
	}
	return true
}

var storageClassName = func() map[string]string {
	m := make(map[string]string, len(storageClasses))
	for _, c := range storageClasses {
		m[c.uid] = c.name
	}
	return m
}()

// UIDName returns the name that PS3.6 gives to a transfer syntax, a SOP class or another UID of the standard; "" for all others.
func UIDName(s string) string {
	if ts, ok := LookupTransferSyntax(s); ok {
		return ts.Name
	}
	if name := storageClassName[s]; name != "" {
		return name
	}
	info, err := uid.Lookup(s)
	if err != nil {
		return ""
	}
	return info.Name
}
