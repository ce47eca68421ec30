"""Hold every test of the project; a package, so that no test shadows product code."""
