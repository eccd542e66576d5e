# Receives with pynetdicom: prints its port, then for each object the SOP Instance UID, transfer syntax and SHA-256 of
# its data set as it came. The first object is answered A700 with an Error Comment. Ends when its standard input does.
import hashlib
import sys

from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt

seen = 0


def on_store(event):
    global seen
    seen += 1
    data = event.request.DataSet.getvalue()
    print(event.request.AffectedSOPInstanceUID, event.context.transfer_syntax, hashlib.sha256(data).hexdigest(), flush=True)
    status = Dataset()
    status.Status = 0xA700 if seen == 1 else 0x0000
    if seen == 1:
        status.ErrorComment = "no room"
    return status


ae = AE(ae_title="PYNETDICOM")
ae.add_supported_context("1.2.840.10008.1.1")
for cx in AllStoragePresentationContexts[:100]:
    ae.add_supported_context(cx.abstract_syntax)
ae.maximum_pdu_size = 16382
server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)])
print(server.socket.getsockname()[1], flush=True)
sys.stdin.read()
server.shutdown()
