"""Be `vdsm.network`."""
