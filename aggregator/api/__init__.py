"""The aggregator's own API, for the command line `skerry` and for scripts."""
