"""Look after the machine: what it is, what it has, how it is."""
