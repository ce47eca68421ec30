"""Be `vdsm.network.api`, of which scripts use one name."""

DUMMY_BRIDGE = ";vdsmdummy;"
