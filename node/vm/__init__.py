"""Virtual machines: definition, life, recovery, figures."""
