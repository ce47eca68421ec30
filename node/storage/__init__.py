"""Files that guests' disks live in and start from."""
