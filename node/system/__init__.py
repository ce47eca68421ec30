"""Hold the doors: one module for each outside thing, no policy in it."""
