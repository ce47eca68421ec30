"""The storage process: holds the leases, and parents whatever writes to a domain."""
