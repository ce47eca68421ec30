"""Decide what the fleet should do, each policy a pure function of the View."""
