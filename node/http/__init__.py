"""Speak HTTP and TLS: how a node and an aggregator serve, are reached, and call."""
