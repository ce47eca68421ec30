"""Who may do what: users, logins, sessions, roles and permissions."""

from aggregator.access.identity import Identity, Session
from aggregator.access.service import Access

__all__ = ["Access", "Identity", "Session"]
