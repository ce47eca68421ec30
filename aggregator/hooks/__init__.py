"""Hooks of the aggregator itself: scripts before and after what it does."""
