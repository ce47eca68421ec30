"""What VMs and their storage agree on: what each says, asks and must not do."""
