"""All pools of a node: what is reached, watched, told, and asked of it."""
