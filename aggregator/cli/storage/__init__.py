"""The commands on storage domains, pools and disks."""
