"""Send an API what its own OpenAPI document allows, and what it forbids.

The examples are the same in every run; SKERRY_FUZZ_EXAMPLES asks for more of them.
"""

import functools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

import flask
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from schemathesis.specs.openapi.schemas import OpenApiSchema

from node.model.verbs import Verb

EXAMPLES = int(os.environ.get("SKERRY_FUZZ_EXAMPLES", "6"))
_CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@dataclass(slots=True)
class Doorway:
    """What a schema is bound to: whoever answers behind it may be another each time."""

    app: flask.Flask | None = None

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        assert self.app is not None, "schema_of says who answers"
        return self.app(environ, start_response)


def schema_of(document: str, app: flask.Flask) -> OpenApiSchema:
    """Return the document that an application serves, bound to the application."""
    schema, doorway = _read(document)
    doorway.app = app
    return schema


@functools.lru_cache(maxsize=2)
def _read(document: str) -> tuple[OpenApiSchema, Doorway]:
    """Read a document: it costs more than what one test asks of it."""
    schema: OpenApiSchema = schemathesis.openapi.from_dict(json.loads(document))
    schema.app = doorway = Doorway()
    return schema, doorway


def modes(verb: Verb) -> tuple[GenerationMode, ...]:
    """Return how a verb can be asked: one that takes nothing is asked rightly."""
    takes = verb.request is not None or verb.query or "{" in verb.path
    both = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    return both if takes else (GenerationMode.POSITIVE,)


def ask(
    schema: OpenApiSchema,
    verb: Verb,
    mode: GenerationMode,
    aim: Callable[[Case[Any]], None],
    headers: Mapping[str, str],
) -> list[int]:
    """Send examples of a verb, each aimed by the caller; return the statuses.

    A reply that is a server's error, or not as the document says, is raised.
    """
    statuses = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema.find_operation_by_id(verb.name).as_strategy(mode))
    def send(case: Case[Any]) -> None:
        aim(case)
        if "wait_s" in case.query:
            case.query["wait_s"] = "0"  # the wait itself is tested elsewhere
        reply = case.call(headers=dict(headers))
        statuses.append(reply.status_code)
        case.validate_response(reply, checks=_CHECKS, headers=dict(headers))

    send()
    return statuses


def aim_at(**path: str) -> Callable[[Case[Any]], None]:
    """Return what points a case at an object that there is."""

    def aim(case: Case[Any]) -> None:
        known: dict[str, Any] = case.path_parameters
        known.update({name: value for name, value in path.items() if name in known})

    return aim
