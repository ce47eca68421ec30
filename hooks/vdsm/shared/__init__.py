"""Be `vdsm.common`."""
