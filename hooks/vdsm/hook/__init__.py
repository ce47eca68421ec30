"""Be `vdsm.hook`."""
