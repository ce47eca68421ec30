"""What lies on a storage domain, byte for byte: read, checked and written. Pure."""
