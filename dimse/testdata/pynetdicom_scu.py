# Sends objects with pynetdicom: one of each SOP class named, in each transfer syntax named, synthetic and tiny.
# usage: pynetdicom_scu.py HOST PORT CLASS[,CLASS...] SYNTAX[,SYNTAX...]
import sys

from pydicom.dataset import Dataset, FileMetaDataset
from pynetdicom import AE
from pynetdicom.presentation import build_role

host, port, classes, syntaxes = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(","), sys.argv[4].split(",")

ae = AE(ae_title="PYNETDICOM")
ae.add_requested_context("1.2.840.10008.1.1")
for c in classes:
    for s in syntaxes:
        ae.add_requested_context(c, s)
assoc = ae.associate(host, port, ae_title="RADNODE", ext_neg=[build_role(classes[0], scu_role=True, scp_role=True)])
if not assoc.is_established:
    sys.exit("no association")
# pynetdicom's reactor thread may take a response off the queue before send_c_store() does, where it comes within a
# millisecond (Association._run_reactor says so itself). No request comes to a sender: only who waits shall get messages.
get_msg = assoc.dimse.get_msg
assoc.dimse.get_msg = lambda block=False: get_msg(block) if block else (None, None)
if assoc.send_c_echo().Status != 0:
    sys.exit("C-ECHO failed")
n = 0
for c in classes:
    for s in syntaxes:
        n += 1
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = s
        ds.SOPClassUID = c
        ds.SOPInstanceUID = f"1.2.3.{n}"
        ds.PatientID = "interop"
        status = assoc.send_c_store(ds)
        if "Status" not in status or status.Status != 0:
            sys.exit(f"C-STORE of {c} in {s}: {status}")
assoc.release()
print(n)
