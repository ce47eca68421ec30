"""The oVirt-compatible REST API: oVirt's clients work unchanged."""

from aggregator.rest.face import blueprint

__all__ = ["blueprint"]
