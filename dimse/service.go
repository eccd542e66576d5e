package dimse

import "strings"

// otherServices are the abstract syntaxes of PS3.6 Table A-1 that look like storage to someone who only knows that they
// are UIDs, but whose requests are other messages than C-STORE. A prefix with a dot at its end covers all below it.
var otherServices = []string{
	"1.2.840.10008.1.",              // Storage Commitment, Procedural Event Logging, Media Storage Directory
	"1.2.840.10008.3.",              // patient, study and results management, performed procedure steps
	"1.2.840.10008.4.2",             // Storage Service Class (meta)
	"1.2.840.10008.5.1.1.",          // printing, Media Creation Management, Display System
	"1.2.840.10008.5.1.4.1.2.",      // Query/Retrieve: patient root, study root, composite instance root
	"1.2.840.10008.5.1.4.1.1.200.4", // Protocol Approval Query/Retrieve
	"1.2.840.10008.5.1.4.1.1.200.5",
	"1.2.840.10008.5.1.4.1.1.200.6",
	"1.2.840.10008.5.1.4.1.1.201.2", // Inventory Query/Retrieve
	"1.2.840.10008.5.1.4.1.1.201.3",
	"1.2.840.10008.5.1.4.1.1.201.4",
	"1.2.840.10008.5.1.4.1.1.201.5", // Inventory Creation
	"1.2.840.10008.5.1.4.1.1.201.6", // Repository Query
	"1.2.840.10008.5.1.4.20.",       // Defined Procedure Protocol Query/Retrieve
	"1.2.840.10008.5.1.4.31",        // Modality Worklist
	"1.2.840.10008.5.1.4.32",        // General Purpose Worklist
	"1.2.840.10008.5.1.4.32.",
	"1.2.840.10008.5.1.4.33",   // Instance Availability Notification
	"1.2.840.10008.5.1.4.34.4", // Unified Procedure Step and Worklist Service Classes (meta)
	"1.2.840.10008.5.1.4.34.4.",
	"1.2.840.10008.5.1.4.34.6",
	"1.2.840.10008.5.1.4.34.6.",
	"1.2.840.10008.5.1.4.37.",  // Relevant Patient Information Query
	"1.2.840.10008.5.1.4.38.2", // Hanging Protocol Query/Retrieve
	"1.2.840.10008.5.1.4.38.3",
	"1.2.840.10008.5.1.4.38.4",
	"1.2.840.10008.5.1.4.39.2", // Color Palette Query/Retrieve
	"1.2.840.10008.5.1.4.39.3",
	"1.2.840.10008.5.1.4.39.4",
	"1.2.840.10008.5.1.4.41",   // Product Characteristics Query
	"1.2.840.10008.5.1.4.42",   // Substance Approval Query
	"1.2.840.10008.5.1.4.43.2", // Generic Implant Template Query/Retrieve
	"1.2.840.10008.5.1.4.43.3",
	"1.2.840.10008.5.1.4.43.4",
	"1.2.840.10008.5.1.4.44.2", // Implant Assembly Template Query/Retrieve
	"1.2.840.10008.5.1.4.44.3",
	"1.2.840.10008.5.1.4.44.4",
	"1.2.840.10008.5.1.4.45.2", // Implant Template Group Query/Retrieve
	"1.2.840.10008.5.1.4.45.3",
	"1.2.840.10008.5.1.4.45.4",
}

// isOtherService says whether a SOP class that is not in the table of storage classes belongs to another service.
func isOtherService(uid string) bool {
	for _, other := range otherServices {
		if uid == other || strings.HasSuffix(other, ".") && strings.HasPrefix(uid, other) {
			return true
		}
	}
	return false
}
