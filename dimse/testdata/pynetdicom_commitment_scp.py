# Answers requests for storage commitment with pynetdicom: instances whose UID ends in 0 are committed, others are not there.
# usage: pynetdicom_commitment_scp.py same|new [PORT]: reports on the association of the request, or on a new one to
# RADNODE@127.0.0.1:PORT. Prints its port, then for each report the role that was negotiated and the status of the response.
# Ends when its standard input does.
import sys
import threading
import time

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel as SC


def report(assoc, result, event_type):
    get_msg = assoc.dimse.get_msg  # see pynetdicom_scu.py
    assoc.dimse.get_msg = lambda block=False: get_msg(block) if block else (None, None)
    status, _ = assoc.send_n_event_report(result, event_type, SC, "1.2.840.10008.1.20.1.1")
    assoc.dimse.get_msg = get_msg
    cx = assoc.accepted_contexts[0]
    print("scp" if cx.as_scp else "scu", f"{status.Status:04X}" if "Status" in status else "none", flush=True)


def answer(assoc, result, event_type):
    if sys.argv[1] == "same":
        time.sleep(0.2)
        report(assoc, result, event_type)
        return
    ae = AE(ae_title="PYNETDICOM")
    ae.add_requested_context(SC)
    ext = [build_role(SC, scu_role=False, scp_role=True)]
    back = ae.associate("127.0.0.1", int(sys.argv[2]), ae_title="RADNODE", ext_neg=ext)
    if not back.is_established:
        print("no association", flush=True)
        return
    report(back, result, event_type)
    back.release()


def on_action(event):
    ds = event.action_information
    result = Dataset()
    result.TransactionUID = ds.TransactionUID
    there, failed = [], []
    for ref in ds.ReferencedSOPSequence:
        item = Dataset()
        item.ReferencedSOPClassUID = ref.ReferencedSOPClassUID
        item.ReferencedSOPInstanceUID = ref.ReferencedSOPInstanceUID
        if item.ReferencedSOPInstanceUID.endswith("0"):
            there.append(item)
        else:
            item.FailureReason = 0x0112
            failed.append(item)
    if there:
        result.ReferencedSOPSequence = there
    if failed:
        result.FailedSOPSequence = failed
    threading.Thread(target=answer, args=(event.assoc, result, 2 if failed else 1), daemon=True).start()
    return 0x0000, None


ae = AE(ae_title="PYNETDICOM")
ae.add_supported_context(SC)
server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, on_action)])
print(server.socket.getsockname()[1], flush=True)
sys.stdin.read()
server.shutdown()
