"""Test what the lab decides; no root, no processes."""
