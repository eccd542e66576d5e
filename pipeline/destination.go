package pipeline

import "time"

// Names of the states that tell of a delivery; their subject is [deliverySubject].
const (
	StateDelivered   = "delivered"   // the destination answered Success for every object
	StateConfirmed   = "confirmed"   // and committed to keep every one of them, PS3.4 J.3
	StateUndelivered = "undelivered" // given up, and why
)

// deliverySubject is the subject of the state of a delivery: its destination, AET@HOST:PORT, and its last object, a report
// where the delivery has one.
func deliverySubject(to string, objects []string) string {
	return "deliver/" + to + "/" + objects[len(objects)-1]
}

// DestinationStats tells how a destination fares.
type DestinationStats struct {
	To         string `json:"to"`         // AET@HOST:PORT
	Configured bool   `json:"configured"` // false: it was once, and what was promised to it is still tried

	Down      time.Time `json:"down,omitzero"`    // since when it is not reached, or takes nothing; zero: it answered, or was not tried yet
	NextTry   time.Time `json:"nextTry,omitzero"` // of one delivery, while it is down
	LastError string    `json:"lastError,omitempty"`

	Waiting   int `json:"waiting"`   // deliveries
	Parked    int `json:"parked"`    // deliveries that were given up; Retry of the store brings them back
	Delivered int `json:"delivered"` // deliveries, since the start

	// Storage Commitment, where it is asked for. Confirmed and Lost count deliveries since the start: those that the destination
	// committed to keep, and those of which it has lost an object, which is sent again.
	Commit      bool      `json:"commit,omitempty"`
	NotOffered  time.Time `json:"notOffered,omitzero"` // when the destination was found not to offer it
	Unconfirmed int       `json:"unconfirmed,omitempty"` // deliveries without an answer yet
	Confirmed   int       `json:"confirmed,omitempty"`
	Lost        int       `json:"lost,omitempty"`
}

// Destinations tells how every destination fares, those that are configured first.
func (p *Pipeline) Destinations() []DestinationStats { return nil }
