"""Prepare a fresh Debian machine for building, trying and testing Skerry."""
