"""The API of a node: one blueprint for each resource, three faces."""
