"""Keep what only the aggregator owns: who leads, the CA, the sealed copy."""
