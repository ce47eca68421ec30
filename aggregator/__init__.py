"""The aggregator: one view of many nodes, and what is asked of them."""
