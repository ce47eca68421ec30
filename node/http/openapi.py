"""Describe the API as an OpenAPI 3.1 document, made from the table of verbs.

Pure. Dataclasses become schemas; what they forbid is forbidden there, too.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

from node.errors import KINDS
from node.model.job import ErrorReport
from node.model.verbs import Verb

Json = dict[str, Any]

_SCALARS: Mapping[type, Json] = {
    str: {"type": "string"},
    int: {"type": "integer", "format": "int64"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
}
_UUID: Json = {"type": "string", "format": "uuid"}


@functools.cache
def document(verbs: tuple[Verb, ...], title: str, version: str) -> Json:
    """Return the OpenAPI document of some verbs; all callers share it."""
    schemas: Json = {}
    paths: Json = {}
    for verb in verbs:
        paths.setdefault(verb.path, {})[verb.method.lower()] = _operation(verb, schemas)
    error = _schema(ErrorReport, schemas)
    schemas["Error"] = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": error},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _operation(verb: Verb, schemas: Json) -> Json:
    operation: Json = {
        "operationId": verb.name,
        "summary": verb.meaning,
        "x-action-group": verb.group.value,
        "x-object": verb.object.value,
        "parameters": [*_path_parameters(verb), *_query_parameters(verb)],
        "responses": {
            str(verb.status): {
                "description": "done" if verb.status < 202 else "a job was made",
                "content": {verb.media_type: _content(verb, schemas)},
            },
            "default": {
                "description": "an error: " + ", ".join(KINDS),
                "content": {
                    "application/json": {
                        "schema": {"$ref": "#/components/schemas/Error"}
                    }
                },
            },
        },
    }
    if verb.request is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _schema(verb.request, schemas)}},
        }
    return operation


def _content(verb: Verb, schemas: Json) -> Json:
    if verb.reply is None or verb.reply is dict:
        return {}
    return {"schema": _schema(verb.reply, schemas)}


def _path_parameters(verb: Verb) -> list[Json]:
    names = [part[1:-1] for part in verb.path.split("/") if part.startswith("{")]
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": _UUID if name.endswith("_id") else _SCALARS[str],
        }
        for name in names
    ]


def _query_parameters(verb: Verb) -> list[Json]:
    return [
        {
            "name": query.name,
            "in": "query",
            "description": query.meaning,
            "schema": _SCALARS[query.kind]
            | ({} if query.kind is str else {"minimum": 0}),
        }
        for query in verb.query
    ]


def _schema(annotation: Any, schemas: Json) -> Json:
    if hasattr(annotation, "__supertype__"):
        is_uuid = annotation.__name__.endswith("Id") and annotation.__name__ not in (
            "CorrelationId",
        )
        return _UUID if is_uuid else _schema(annotation.__supertype__, schemas)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(each, schemas) for each in arguments]}
    if annotation is types.NoneType:
        return {"type": "null"}
    if origin is tuple:
        return _array(arguments, schemas)
    if origin is not None:  # a Mapping
        return {
            "type": "object",
            "additionalProperties": _schema(arguments[1], schemas),
        }
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {"type": "string", "enum": [member.value for member in annotation]}
    if dataclasses.is_dataclass(annotation):
        return _reference(typing.cast(type, annotation), schemas)
    return dict(_SCALARS.get(annotation, {}))


def _array(arguments: tuple[Any, ...], schemas: Json) -> Json:
    if arguments[-1] is Ellipsis:
        return {"type": "array", "items": _schema(arguments[0], schemas)}
    return {
        "type": "array",
        "prefixItems": [_schema(each, schemas) for each in arguments],
        "minItems": len(arguments),
        "maxItems": len(arguments),
    }


def _reference(cls: type, schemas: Json) -> Json:
    name = cls.__name__
    if name not in schemas:
        schemas[name] = {}  # ends recursion
        hints = typing.get_type_hints(cls)
        fields = dataclasses.fields(cls)
        schemas[name] = {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                field.metadata.get("wire", field.name): _schema(
                    hints[field.name], schemas
                )
                for field in fields
            },
            "required": [
                field.metadata.get("wire", field.name)
                for field in fields
                if field.default is dataclasses.MISSING
                and field.default_factory is dataclasses.MISSING
            ],
        }
    return {"$ref": f"#/components/schemas/{name}"}
