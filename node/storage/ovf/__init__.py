"""OVF as oVirt writes and reads it: VM documents, and the store that holds them.

Pure codecs. What a document says beyond what is known here is kept as it is.
"""
