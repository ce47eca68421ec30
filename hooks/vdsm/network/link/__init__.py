"""Be `vdsm.network.link`."""
