"""The disks of a pool: how they are seen, and what is done to them as jobs."""
