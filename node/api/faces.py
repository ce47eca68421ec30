"""Decide who may call what on which face.

    local.sock       root of this machine: every verb that allows Caller.LOCAL
    nginx.sock       what came in by mutual TLS: nginx's headers say who it is
    admission.sock   what came in without a client certificate

nginx strips the X-Skerry headers of its clients and sets its own.
"""

import logging
from collections.abc import Callable, Mapping

import flask

from node.errors import Denied, Invalid
from node.http import face
from node.model.fleet import Role
from node.model.verbs import ActionGroup, Caller, Verb

log = logging.getLogger(__name__)

CheckTerm = Callable[[str, int], None]  # raises Superseded

ROLE = "X-Skerry-Role"
SUBJECT = "X-Skerry-Subject"
FLEET = "X-Skerry-Fleet"
TERM = "X-Skerry-Term"
TERM_DIGITS_MAX = 18  # what 64 bits hold; a fleet changes its leader some times


class NotServedHere(Denied):
    """The verb exists, but not for this caller."""

    code = "not_served_here"
    remedy = "Use the face that serves it: see x-callers in /v1/openapi.json."


class RoleRefused(Denied):
    code = "role_refused"
    remedy = "Call with a certificate of this fleet and of the role aggregator."


class BadTerm(Invalid):
    code = "bad_term"
    remedy = "Send X-Skerry-Fleet and X-Skerry-Term with every verb."


def create_local(blueprints: tuple[flask.Blueprint, ...]) -> flask.Flask:
    """Return the face of the unix socket that only root can open."""

    def authorize(verb: Verb, _path: Mapping[str, str]) -> None:
        _check_caller(verb, Caller.LOCAL)

    return face.create_app("local", blueprints, authorize)


def create_fleet(
    blueprints: tuple[flask.Blueprint, ...], check_term: CheckTerm
) -> flask.Flask:
    """Return the face behind mutual TLS."""

    def authorize(verb: Verb, _path: Mapping[str, str]) -> None:
        headers = flask.request.headers
        if headers.get(ROLE) != Role.AGGREGATOR:
            log.warning("refused %s of %r", verb.name, headers.get(SUBJECT))
            raise RoleRefused(f"{verb.name} is not for {headers.get(ROLE) or 'you'}")
        _check_caller(verb, Caller.AGGREGATOR)
        if verb.group is not ActionGroup.READ:
            check_term(headers.get(FLEET, ""), _term(headers.get(TERM, "")))

    return face.create_app("fleet", blueprints, authorize)


def create_admission(blueprints: tuple[flask.Blueprint, ...]) -> flask.Flask:
    """Return the face that anybody who reaches this machine may speak to."""

    def authorize(verb: Verb, _path: Mapping[str, str]) -> None:
        _check_caller(verb, Caller.ANYONE)

    return face.create_app("admission", blueprints, authorize)


def _check_caller(verb: Verb, caller: Caller) -> None:
    if caller not in verb.callers:
        raise NotServedHere(f"{verb.name} is not served to callers of kind {caller}")


def _term(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > TERM_DIGITS_MAX:
        raise BadTerm(f"X-Skerry-Term must be a number, not {text[:20]!r}")
    return int(text)
