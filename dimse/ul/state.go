package ul

import "fmt"

// A state of the protocol machine, PS3.8 Tables 9-1 to 9-5. The zero value is no state.
type state uint8

const (
	sta1  state = iota + 1 // idle
	sta2                   // transport connection open, awaiting A-ASSOCIATE-RQ PDU
	sta3                   // awaiting local A-ASSOCIATE response
	sta4                   // awaiting transport connection opening to complete
	sta5                   // awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ PDU
	sta6                   // association established, ready for data transfer
	sta7                   // awaiting A-RELEASE-RP PDU
	sta8                   // awaiting local A-RELEASE response
	sta9                   // release collision, requestor: awaiting local A-RELEASE response
	sta10                  // release collision, acceptor: awaiting A-RELEASE-RP PDU
	sta11                  // release collision, requestor: awaiting A-RELEASE-RP PDU
	sta12                  // release collision, acceptor: awaiting local A-RELEASE response
	sta13                  // awaiting transport connection close
)

func (s state) String() string { return fmt.Sprintf("Sta%d", uint8(s)) }

// An event is a row of PS3.8 Table 9-10.
type event uint8

const (
	evtAssociateRequest event = iota + 1 // 1: A-ASSOCIATE request (local user)
	evtConnected                         // 2: transport connection confirmed
	evtAssociateAC                       // 3: A-ASSOCIATE-AC PDU received
	evtAssociateRJ                       // 4: A-ASSOCIATE-RJ PDU received
	evtConnection                        // 5: transport connection indication (local transport)
	evtAssociateRQ                       // 6: A-ASSOCIATE-RQ PDU received
	evtAccept                            // 7: A-ASSOCIATE response, accept (local user)
	evtReject                            // 8: A-ASSOCIATE response, reject (local user)
	evtDataRequest                       // 9: P-DATA request (local user)
	evtData                              // 10: P-DATA-TF PDU received
	evtReleaseRequest                    // 11: A-RELEASE request (local user)
	evtReleaseRQ                         // 12: A-RELEASE-RQ PDU received
	evtReleaseRP                         // 13: A-RELEASE-RP PDU received
	evtReleaseResponse                   // 14: A-RELEASE response (local user)
	evtAbortRequest                      // 15: A-ABORT request (local user)
	evtAbort                             // 16: A-ABORT PDU received
	evtClosed                            // 17: transport connection closed
	evtARTIM                             // 18: ARTIM timer expired
	evtInvalid                           // 19: unrecognised or invalid PDU received
)

// An action is a row of PS3.8 Tables 9-6 to 9-9; [Conn.perform] carries them out. Zero is an empty cell.
type action uint8

const (
	ae1 action = iota + 1
	ae2
	ae3
	ae4
	ae5
	ae6
	ae7
	ae8
	dt1
	dt2
	ar1
	ar2
	ar3
	ar4
	ar5
	ar6
	ar7
	ar8
	ar9
	ar10
	aa1
	aa2
	aa3
	aa4
	aa5
	aa6
	aa7
	aa8
)

// transitions is PS3.8 Table 9-10, cell by cell: a row is an event, a column a state, Sta1 first.
// An empty cell cannot happen; where it does, the fault is ours and the step is refused.
var transitions = [...][13]action{
	//                   1    2    3    4    5    6    7    8    9    10    11   12   13
	evtAssociateRequest: {ae1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	evtConnected:        {0, 0, 0, ae2, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	evtAssociateAC:      {0, aa1, aa8, 0, ae3, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa6},
	evtAssociateRJ:      {0, aa1, aa8, 0, ae4, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa6},
	evtConnection:       {ae5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	evtAssociateRQ:      {0, ae6, aa8, 0, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa7},
	evtAccept:           {0, 0, ae7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	evtReject:           {0, 0, ae8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	evtDataRequest:      {0, 0, 0, 0, 0, dt1, 0, ar7, 0, 0, 0, 0, 0},
	evtData:             {0, aa1, aa8, 0, aa8, dt2, ar6, aa8, aa8, aa8, aa8, aa8, aa6},
	evtReleaseRequest:   {0, 0, 0, 0, 0, ar1, 0, 0, 0, 0, 0, 0, 0},
	evtReleaseRQ:        {0, aa1, aa8, 0, aa8, ar2, ar8, aa8, aa8, aa8, aa8, aa8, aa6},
	evtReleaseRP:        {0, aa1, aa8, 0, aa8, aa8, ar3, aa8, aa8, ar10, ar3, aa8, aa6},
	evtReleaseResponse:  {0, 0, 0, 0, 0, 0, 0, ar4, ar9, 0, 0, ar4, 0},
	evtAbortRequest:     {0, 0, aa1, aa2, aa1, aa1, aa1, aa1, aa1, aa1, aa1, aa1, 0},
	evtAbort:            {0, aa2, aa3, 0, aa3, aa3, aa3, aa3, aa3, aa3, aa3, aa3, aa2},
	evtClosed:           {0, aa5, aa4, aa4, aa4, aa4, aa4, aa4, aa4, aa4, aa4, aa4, ar5},
	evtARTIM:            {0, aa2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, aa2},
	evtInvalid:          {0, aa1, aa8, 0, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa8, aa7},
}

// nextState is the last column of PS3.8 Tables 9-6 to 9-9. AE-6 and AR-8 have two and are settled in [Conn.perform].
var nextState = [...]state{
	ae1: sta4, ae2: sta5, ae3: sta6, ae4: sta1, ae5: sta2, ae6: sta3, ae7: sta6, ae8: sta13,
	dt1: sta6, dt2: sta6,
	ar1: sta7, ar2: sta8, ar3: sta1, ar4: sta13, ar5: sta1, ar6: sta7, ar7: sta8, ar8: sta10, ar9: sta11, ar10: sta12,
	aa1: sta13, aa2: sta1, aa3: sta1, aa4: sta1, aa5: sta1, aa6: sta13, aa7: sta13, aa8: sta13,
}
