"""Choose the node of a VM: filters say who can, weights say who should."""
