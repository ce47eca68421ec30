"""Mirror what the nodes say: deltas in, one View out."""
