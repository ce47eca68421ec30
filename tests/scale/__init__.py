"""Measure the product at scale: a simulated fleet, and the numbers of DESIGN 8.

`python -m tests.scale.bench` prints all figures; docs/benchmarks.md explains them.
"""
