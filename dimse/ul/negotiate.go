package ul

// Negotiate answers the presentation contexts, roles and window of a request.
//
// choose picks one of the transfer syntaxes proposed for an abstract syntax, or says why none is accepted.
// window bounds the operations a peer may have outstanding, PS3.7 D.3.3.3.
func Negotiate(rq *AssociateRQ, window uint16, choose func(abstract string, transfer []string) (string, Result)) *AssociateAC {
	ac := &AssociateAC{}
	accepted := map[string]bool{}
	for _, p := range rq.Contexts {
		r := ContextResult{ID: p.ID, TransferSyntax: "1.2.840.10008.1.2"} // means nothing where refused, PS3.8 Table 9-18
		switch {
		case p.AbstractSyntax == "":
			r.Result = AbstractSyntaxNotSupported
		case len(p.TransferSyntaxes) == 0:
			r.Result = TransferSyntaxesNotSupported
		default:
			if ts, result := choose(p.AbstractSyntax, p.TransferSyntaxes); result == Acceptance {
				r.TransferSyntax = ts
				accepted[p.AbstractSyntax] = true
			} else {
				r.Result = result
			}
		}
		ac.Contexts = append(ac.Contexts, r)
	}
	if w := rq.User.Window; w != nil {
		// Answered only where proposed. We invoke at most one operation at a time on an association we accepted, and perform within our bound; 0 = no limit.
		performed := w.Invoked
		if performed == 0 || performed > window {
			performed = window
		}
		ac.User.Window = &AsyncWindow{Invoked: performed, Performed: 1}
	}
	for _, r := range rq.User.Roles {
		if accepted[r.SOPClass] { // the requestor stays SCU; we need no SCP of it, PS3.7 D.3.3.4
			ac.User.Roles = append(ac.User.Roles, Role{SOPClass: r.SOPClass, SCU: r.SCU})
		}
	}
	return ac
}
