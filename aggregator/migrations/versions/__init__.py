"""One module for each step of the schema; each names the step before it."""
