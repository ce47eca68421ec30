"""What needs another kernel than the machine's: storage checks in the throw-away VM.

The modules that end in `_checks` are pytest's, but only in the VM: `test_nfs.py`
starts it and hands them over, by name. All others here serve them; `writer.s` is a
guest, smaller than any Linux, for VMs within the VM.
"""
