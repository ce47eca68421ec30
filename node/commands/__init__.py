"""What both command lines share: `skerry-node` on a node, `skerry` for a fleet."""
