# Requests storage commitment with pynetdicom and prints each result that it is told: the association it came on, Event Type,
# Transaction UID, committed and failed instances.
# usage: pynetdicom_commitment_scu.py HOST PORT TRANSACTION SYNTAX UID... First prints the port that it listens on for results
# on new associations; ends when its standard input does.
import sys

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StorageCommitmentPushModel as SC

host, port, transaction, syntax, uids = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:]


def say(line):  # in one piece: two threads do
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def on_event(event, where):
    ds = event.event_information
    committed = ",".join(i.ReferencedSOPInstanceUID for i in ds.get("ReferencedSOPSequence", []))
    failed = ",".join(f"{i.ReferencedSOPInstanceUID}={i.FailureReason:04X}" for i in ds.get("FailedSOPSequence", []))
    say(f"{where} {event.event_type} {ds.TransactionUID} {committed or '-'} {failed or '-'}")
    return 0x0000, None


def handlers(where):
    return [(evt.EVT_N_EVENT_REPORT, on_event, [where])]


ae = AE(ae_title="PYNETDICOM")
ae.add_supported_context(SC, scu_role=False, scp_role=True)
server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers("new"))
say(str(server.socket.getsockname()[1]))
ae.add_requested_context(SC, syntax)
assoc = ae.associate(host, port, ae_title="RADNODE", evt_handlers=handlers("same"))
if not assoc.is_established:
    sys.exit("no association")
ds = Dataset()
ds.TransactionUID = transaction
ds.ReferencedSOPSequence = []
for uid in uids:
    item = Dataset()
    item.ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    item.ReferencedSOPInstanceUID = uid
    ds.ReferencedSOPSequence.append(item)
# pynetdicom's reactor thread may take a response off the queue before send_n_action() does, see pynetdicom_scu.py.
get_msg = assoc.dimse.get_msg
assoc.dimse.get_msg = lambda block=False: get_msg(block) if block else (None, None)
status, _ = assoc.send_n_action(ds, 1, SC, "1.2.840.10008.1.20.1.1")
assoc.dimse.get_msg = get_msg
if "Status" not in status:
    sys.exit("N-ACTION was not answered")
say(f"status {status.Status:04X}")
sys.stdin.read()
if assoc.is_established:
    assoc.release()
server.shutdown()
