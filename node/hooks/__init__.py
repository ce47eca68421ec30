"""Run scripts of administrators at the points that VDSM has, by its contract."""
