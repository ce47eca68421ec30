"""The transfer server: disks in and out of a node over oVirt's imageio protocol."""
