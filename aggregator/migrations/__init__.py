"""Bring the schema of the aggregator's database up to date, step by step."""
