"""The dashboard: server-rendered pages over the View, live by small polls."""

from aggregator.dashboard.app import blueprint

__all__ = ["blueprint"]
