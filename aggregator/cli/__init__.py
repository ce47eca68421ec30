"""`skerry`: the command line for the people of a fleet."""
