"""Make the dashboard's blueprint: every page, bound to its path."""

from typing import Final

import flask

from aggregator.dashboard import (
    disks,
    events,
    hooks,
    limits,
    logins,
    new_disks,
    new_storage,
    new_vms,
    newcomers,
    nodes,
    overview,
    pools,
    properties,
    routes,
    searches,
    snapshots,
    storage,
    tasks,
    templates,
    uploads,
    vms,
)
from aggregator.dashboard.moments import Moments
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.routes import PublicRoute, Route
from aggregator.services import Services

# A waiting page holds one of the threads that serve people: at most this part.
_WAITING_PART: Final = 2
_CONTENT_SECURITY: Final = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "object-src 'none'",
    )
)

# Every route of the dashboard, with the permission it needs.
ROUTES: Final[tuple[Route | PublicRoute, ...]] = (
    *logins.ROUTES,
    *overview.ROUTES,
    *nodes.ROUTES,
    *vms.ROUTES,
    *snapshots.ROUTES,
    *new_vms.ROUTES,
    *hooks.ROUTES,
    *properties.ROUTES,
    *templates.ROUTES,
    *new_storage.ROUTES,
    *storage.ROUTES,
    *newcomers.ROUTES,
    *limits.ROUTES,
    *pools.ROUTES,
    *new_disks.ROUTES,
    *disks.ROUTES,
    *uploads.ROUTES,
    *events.ROUTES,
    *tasks.ROUTES,
    *searches.ROUTES,
)


def blueprint(services: Services) -> flask.Blueprint:
    """Return the pages on /, /ui and /static."""
    waiters = max(1, services.config.people_threads // _WAITING_PART)
    pages = Pages(services, Moments(services, waiters))
    bound = flask.Blueprint("dashboard", __name__)
    routes.bind(bound, pages, ROUTES)
    bound.after_request(_add_headers)
    return bound


def _add_headers(response: flask.Response) -> flask.Response:
    response.headers["Content-Security-Policy"] = _CONTENT_SECURITY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    # pages are people's own; what may be kept says so itself
    response.headers.setdefault("Cache-Control", "no-store")
    return response
