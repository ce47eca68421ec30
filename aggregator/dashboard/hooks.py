"""Serve the page of hooks: where scripts are, and who may sign bundles of them."""

from collections import defaultdict
from typing import Final

import flask

from aggregator.api import hooks
from aggregator.control.hook_bundles import NodeOutcome
from aggregator.dashboard import questions, routes, visits
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.questions import Field, Kind, Question
from aggregator.dashboard.routes import Route
from aggregator.dashboard.visits import Note, Visit
from aggregator.federation.view import View
from aggregator.fleet.hook_rules import HookKeyNotFound
from node.hook_bundle import ARCHIVE_MAX, BadBundle
from node.model.hooks import HookBundle
from node.model.ids import NodeId
from node.model.verbs import ActionGroup, Object

PAGE: Final = "/ui/hooks"
_ALL: Final = ""  # of the choice of nodes
# A bundle is its archive in base64, and some words.
_FORM_MAX: Final = 2 * ARCHIVE_MAX
_PROBLEMS_MAX: Final = 5  # in one note


def show(pages: Pages, visit: Visit) -> flask.Response:
    """Return the page of all hooks of the fleet."""
    view, keys = pages.services.mirror.view, pages.services.hook_rules.signers()
    return pages.show(
        visit,
        "hooks.html",
        hooks=hooks.of_fleet(view),
        bundles=sorted(_bundles(view).items(), key=lambda each: each[0].name),
        keys=keys,
        names={each.key_id: each.name for each in keys},
        center=pages.services.center_hooks.list(),
        is_strict=pages.services.hook_rules.is_strict(),
    )


def _bundles(view: View) -> dict[HookBundle, list[str]]:
    """Return the names of the nodes that have each bundle."""
    found: dict[HookBundle, list[str]] = defaultdict(list)
    for node in sorted(view.nodes.values(), key=lambda each: each.name):
        for bundle in node.facts.hook_bundles if node.facts else ():
            found[bundle].append(node.name)
    return found


# bundles


def _ask_install(pages: Pages, visit: Visit) -> flask.Response:
    fields = (Field("bundle", "Bundle", kind=Kind.FILE), _nodes(pages))
    about = (
        "The command skerry-node hooks pack makes a bundle of a folder of hooks. A key "
        "of this fleet has to have signed it. It takes the place of one of its name."
    )
    title, address = "Install a bundle of hooks", f"{PAGE}/install"
    return _ask(pages, visit, Question(title, "Install", address, PAGE, about, fields))


def _install(pages: Pages, visit: Visit) -> flask.Response:
    sent = flask.request.files.get("bundle")
    if sent is None:
        raise BadBundle("no file was sent")
    text = sent.read().decode(errors="replace")
    chosen = _chosen()
    return _done(pages, pages.services.hook_bundles.install(text, chosen))


def _ask_removal(pages: Pages, visit: Visit, name: str) -> flask.Response:
    about = "VMs that run are not touched; the next point finds its scripts no more."
    words = (f"Remove: {name}", "Remove", f"{PAGE}/bundles/{name}/remove", PAGE, about)
    return _ask(pages, visit, Question(*words, (_nodes(pages),), is_dangerous=True))


def _remove(pages: Pages, visit: Visit, name: str) -> flask.Response:
    chosen = _chosen()
    return _done(pages, pages.services.hook_bundles.remove(name, chosen))


def _nodes(pages: Pages) -> Field:
    names = sorted((e.name, e.node_id) for e in pages.services.registry.members())
    every = [(_ALL, "All nodes"), *((node_id, name) for name, node_id in names)]
    return questions.choice("node", "On", every)


def _chosen() -> list[NodeId]:
    chosen = visits.form().get("node", _ALL)
    return [NodeId(chosen)] if chosen else []


def _done(pages: Pages, outcomes: tuple[NodeOutcome, ...]) -> flask.Response:
    response = routes.done(pages, PAGE)
    failed = [f"{each.name}: {each.problem}" for each in outcomes if each.problem]
    if failed:
        shown = failed[:_PROBLEMS_MAX]
        visits.leave_note(response, Note("bad", "; ".join(shown), ""))
    return response


# what is decided


def _ask_key(pages: Pages, visit: Visit) -> flask.Response:
    fields = (Field("name", "Name"), Field("pem", "Public key (PEM)", kind=Kind.AREA))
    about = (
        "Bundles that this Ed25519 key has signed may be installed on every node. "
        "The command openssl pkey -in key.pem -pubout shows the public half of a key."
    )
    title, address = "Let a key sign bundles of hooks", f"{PAGE}/keys/new"
    return _ask(pages, visit, Question(title, "Add", address, PAGE, about, fields))


def _add_key(pages: Pages, visit: Visit) -> flask.Response:
    form = visits.form()
    name, pem = form.get("name", ""), form.get("pem", "")
    pages.services.hook_rules.add_key(name, pem, visit.origin)
    return routes.done(pages, PAGE)


def _ask_key_removal(pages: Pages, visit: Visit, key: str) -> flask.Response:
    about = "What it has signed stays installed."
    name, address = _name_of(pages, key), f"{PAGE}/keys/{key}/remove"
    words = (f"Remove: {name}", "Remove", address, PAGE, about)
    return _ask(pages, visit, Question(*words, is_dangerous=True))


def _remove_key(pages: Pages, visit: Visit, key: str) -> flask.Response:
    pages.services.hook_rules.remove_key(_name_of(pages, key), visit.origin)
    return routes.done(pages, PAGE)


def _name_of(pages: Pages, key: str) -> str:
    for each in pages.services.hook_rules.signers():
        if each.key_id == key:
            return each.name
    raise HookKeyNotFound("there is no such key")


def _set_strict(pages: Pages, visit: Visit) -> flask.Response:
    is_strict = visits.form().get("strict") == "yes"
    pages.services.hook_rules.set_strict(visit.origin, is_strict=is_strict)
    return routes.done(pages, PAGE)


def _ask(pages: Pages, visit: Visit, question: Question) -> flask.Response:
    return pages.show(visit, "question.html", question=question)


_BUNDLE: Final = f"{PAGE}/bundles/<name>/remove"
_KEY: Final = f"{PAGE}/keys/<key>/remove"
_DECIDE: Final = (ActionGroup.EDIT_FLEET, Object.FLEET)
ROUTES: Final = (
    Route("GET", PAGE, show, ActionGroup.READ, Object.FLEET),
    Route("GET", f"{PAGE}/install", _ask_install, *_DECIDE),
    Route("POST", f"{PAGE}/install", _install, *_DECIDE, form_max=_FORM_MAX),
    Route("GET", _BUNDLE, _ask_removal, *_DECIDE),
    Route("POST", _BUNDLE, _remove, *_DECIDE),
    Route("GET", f"{PAGE}/keys/new", _ask_key, *_DECIDE),
    Route("POST", f"{PAGE}/keys/new", _add_key, *_DECIDE),
    Route("GET", _KEY, _ask_key_removal, *_DECIDE),
    Route("POST", _KEY, _remove_key, *_DECIDE),
    Route("POST", f"{PAGE}/strict", _set_strict, *_DECIDE),
)
