"""Decisions that a node and the aggregator share. Pure."""
