"""Serve what limits disks: storage QoS, and the disk profiles that have it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import flask

from aggregator.dashboard import (
    data_centers,
    disk_limits,
    questions,
    routes,
    visits,
)
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.questions import Field, Question
from aggregator.dashboard.routes import Handler, Route
from aggregator.dashboard.visits import Visit
from aggregator.federation.view import View
from aggregator.fleet.disk_profiles import ProfileNotFound, QosNotFound
from aggregator.policies.profiles import (
    DiskProfile,
    Profiles,
    StorageQos,
    default_id,
)
from node.model.ids import StorageDomainId
from node.model.storage import DomainClass
from node.model.verbs import ActionGroup, Object

PAGE: Final = "/ui/limits"
_QOS: Final = f"{PAGE}/qos"
_PROFILES: Final = f"{PAGE}/profiles"
_NO_QOS: Final = ("", "none: each disk has limits of its own")
_ABOUT_QOS: Final = (
    "Empty is no limit. Limit operations as a whole, or reads and writes apart; "
    "likewise MB. The disks of its profiles follow within some seconds."
)
_ABOUT_PROFILE: Final = (
    "Disks have the limits of their profile's storage QoS; with none each has its own."
)


@dataclass(frozen=True, slots=True)
class QosLine:
    qos_id: str
    name: str
    description: str
    data_center: str
    limits: str
    profiles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProfileLine:
    profile_id: str
    name: str
    description: str
    storage_domain_id: StorageDomainId
    storage_domain: str
    is_default: bool
    qos: str
    limits: str


def show(pages: Pages, visit: Visit) -> flask.Response:
    """Return the page of all storage QoS and disk profiles."""
    moment, now = pages.moments.now(), pages.services.orders.profiles.now()
    names = dict(data_centers.all_of(pages.services))
    return pages.show(
        visit,
        "limits.html",
        moment,
        qoss=list(_qos_lines(now, names)),
        profiles=list(_profile_lines(moment.view, now)),
    )


# storage QoS


def _ask_new_qos(pages: Pages, visit: Visit) -> flask.Response:
    centers = data_centers.all_of(pages.services)
    fields = (
        Field("name", "Name"),
        Field("description", "Description", is_optional=True),
        questions.choice("data_center_id", "Data center", centers),
        *disk_limits.fields(StorageQos("", "", "").limits),
    )
    return _ask(pages, visit, "Add a storage QoS", f"{_QOS}/new", _ABOUT_QOS, fields)


def _make_qos(pages: Pages, visit: Visit) -> flask.Response:
    form = visits.form()
    name, center = form.get("name", ""), form.get("data_center_id", "")
    limits, description = disk_limits.read(form), form.get("description", "")
    pages.services.orders.profiles.make_qos(name, center, description, limits)
    return routes.done(pages, PAGE)


def _ask_qos(pages: Pages, visit: Visit, qos_id: str) -> flask.Response:
    known = _qos(pages, qos_id)
    fields = (
        Field("name", "Name", known.name),
        Field("description", "Description", known.description, is_optional=True),
        *disk_limits.fields(known.limits),
    )
    address = f"{_QOS}/{qos_id}/edit"
    return _ask(pages, visit, f"Edit: {known.name}", address, _ABOUT_QOS, fields)


def _change_qos(pages: Pages, visit: Visit, qos_id: str) -> flask.Response:
    form = visits.form()
    pages.services.orders.profiles.change_qos(
        qos_id,
        name=form.get("name", ""),
        description=form.get("description", ""),
        limits=disk_limits.read(form),
    )
    return routes.done(pages, PAGE)


def _ask_qos_removal(pages: Pages, visit: Visit, qos_id: str) -> flask.Response:
    name = _qos(pages, qos_id).name
    address, about = f"{_QOS}/{qos_id}/remove", "No disk profile may have it."
    title = f"Remove: {name}"
    return _ask(pages, visit, title, address, about, (), is_dangerous=True)


def _remove_qos(pages: Pages, visit: Visit, qos_id: str) -> flask.Response:
    pages.services.orders.profiles.remove_qos(qos_id)
    return routes.done(pages, PAGE)


# disk profiles


def _ask_new_profile(pages: Pages, visit: Visit) -> flask.Response:
    view, now = pages.services.mirror.view, pages.services.orders.profiles.now()
    places = [
        (each, view.storage_domains[each].name)
        for _, each in view.storage_domain_order
        if view.storage_domains[each].domain_class is DomainClass.DATA
    ]
    fields = (
        Field("name", "Name"),
        Field("description", "Description", is_optional=True),
        questions.choice("storage_domain_id", "Storage domain", places),
        questions.choice("qos_id", "Storage QoS", _offered(now)),
    )
    title, address = "Add a disk profile", f"{_PROFILES}/new"
    return _ask(pages, visit, title, address, _ABOUT_PROFILE, fields)


def _make_profile(pages: Pages, visit: Visit) -> flask.Response:
    form = visits.form()
    pages.services.orders.profiles.make(
        pages.services.mirror.view,
        form.get("name", ""),
        StorageDomainId(form.get("storage_domain_id", "")),
        form.get("description", ""),
        form.get("qos_id"),
    )
    return routes.done(pages, PAGE)


def _ask_profile(pages: Pages, visit: Visit, profile_id: str) -> flask.Response:
    known, now = _profile(pages, profile_id), pages.services.orders.profiles.now()
    fields = (
        Field("name", "Name", known.name),
        Field("description", "Description", known.description, is_optional=True),
        questions.choice("qos_id", "Storage QoS", _offered(now), known.qos_id or ""),
    )
    address = f"{_PROFILES}/{profile_id}/edit"
    return _ask(pages, visit, f"Edit: {known.name}", address, _ABOUT_PROFILE, fields)


def _change_profile(pages: Pages, visit: Visit, profile_id: str) -> flask.Response:
    form = visits.form()
    pages.services.orders.profiles.change(
        pages.services.mirror.view,
        profile_id,
        name=form.get("name", ""),
        description=form.get("description", ""),
        qos_id=form.get("qos_id", ""),
    )
    return routes.done(pages, PAGE)


def _ask_profile_removal(pages: Pages, visit: Visit, profile_id: str) -> flask.Response:
    name = _profile(pages, profile_id).name
    address, about = f"{_PROFILES}/{profile_id}/remove", "No disk may have it."
    title = f"Remove: {name}"
    return _ask(pages, visit, title, address, about, (), is_dangerous=True)


def _remove_profile(pages: Pages, visit: Visit, profile_id: str) -> flask.Response:
    view = pages.services.mirror.view
    pages.services.orders.profiles.remove(view, profile_id)
    return routes.done(pages, PAGE)


def _ask(
    pages: Pages,
    visit: Visit,
    title: str,
    address: str,
    meaning: str,
    fields: tuple[Field, ...],
    *,
    is_dangerous: bool = False,
) -> flask.Response:
    label = "Remove" if is_dangerous else "Save"
    question = Question(title, label, address, PAGE, meaning, fields, is_dangerous)
    return pages.show(visit, "question.html", question=question)


def _offered(now: Profiles) -> list[tuple[str, str]]:
    known = sorted(now.qoss.values(), key=lambda each: each.name.casefold())
    return [_NO_QOS, *((each.qos_id, each.name) for each in known)]


def _qos(pages: Pages, qos_id: str) -> StorageQos:
    known = pages.services.orders.profiles.now().qoss.get(qos_id)
    if known is None:
        raise QosNotFound(f"there is no storage QoS {qos_id}")
    return known


def _profile(pages: Pages, profile_id: str) -> DiskProfile:
    now, view = pages.services.orders.profiles.now(), pages.services.mirror.view
    known = now.find(view, profile_id)
    if known is None:
        raise ProfileNotFound(f"there is no disk profile {profile_id}")
    return known


def _qos_lines(now: Profiles, names: dict[str, str]) -> Iterator[QosLine]:
    for each in sorted(now.qoss.values(), key=lambda each: each.name.casefold()):
        yield QosLine(
            each.qos_id,
            each.name,
            each.description,
            names.get(each.data_center_id, ""),
            disk_limits.text(each.limits),
            tuple(sorted(user.name for user in now.users(each.qos_id))),
        )


def _profile_lines(view: View, now: Profiles) -> Iterator[ProfileLine]:
    for each in now.all(view):
        qos = now.qoss.get(each.qos_id or "")
        yield ProfileLine(
            each.profile_id,
            each.name,
            each.description,
            each.storage_domain_id,
            view.storage_domains[each.storage_domain_id].name,
            each.profile_id == default_id(each.storage_domain_id),
            qos.name if qos is not None else "",
            disk_limits.text(qos.limits) if qos is not None else "",
        )


_ONE_QOS: Final = f"{_QOS}/<qos_id>"
_ONE_PROFILE: Final = f"{_PROFILES}/<profile_id>"
_OF_QOS: Final = ActionGroup.EDIT_POOL
_OF_PROFILES: Final = ActionGroup.CONFIGURE_DISK_PROFILE
_EDITS: Final[tuple[tuple[str, Handler, Handler, ActionGroup], ...]] = (
    (f"{_QOS}/new", _ask_new_qos, _make_qos, _OF_QOS),
    (f"{_ONE_QOS}/edit", _ask_qos, _change_qos, _OF_QOS),
    (f"{_ONE_QOS}/remove", _ask_qos_removal, _remove_qos, _OF_QOS),
    (f"{_PROFILES}/new", _ask_new_profile, _make_profile, _OF_PROFILES),
    (f"{_ONE_PROFILE}/edit", _ask_profile, _change_profile, _OF_PROFILES),
    (
        *(f"{_ONE_PROFILE}/remove", _ask_profile_removal, _remove_profile),
        _OF_PROFILES,
    ),
)
ROUTES: Final = (
    Route("GET", PAGE, show, ActionGroup.READ, Object.FLEET),
    *(
        Route(method, path, handler, group, Object.FLEET)
        for path, asks, does, group in _EDITS
        for method, handler in (("GET", asks), ("POST", does))
    ),
)
