"""The OpenAPI document follows from the table of verbs."""

import json
from typing import Any

import pytest

from node.http import openapi
from node.model import verbs

DOCUMENT: dict[str, Any] = openapi.document(verbs.VERBS, "Node", "1")


@pytest.mark.parametrize("verb", verbs.VERBS, ids=lambda verb: verb.name)
def test_document_has_every_verb(verb: verbs.Verb) -> None:
    operation = DOCUMENT["paths"][verb.path][verb.method.lower()]
    assert operation["operationId"] == verb.name
    assert operation["summary"].endswith(".")
    assert operation["x-action-group"] == verb.group
    assert ("requestBody" in operation) == (verb.request is not None)


def test_document_defines_all_that_it_refers_to() -> None:
    text = json.dumps(DOCUMENT)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names
    assert names <= DOCUMENT["components"]["schemas"].keys()


def test_document_forbids_unknown_fields() -> None:
    schema = DOCUMENT["components"]["schemas"]["VmSpec"]
    assert schema["additionalProperties"] is False
    assert {"vm_id", "name", "memory_bytes"} == set(schema["required"])


def test_verbs_have_names_and_paths_of_their_own() -> None:
    assert len({verb.name for verb in verbs.VERBS}) == len(verbs.VERBS)
    assert len({(v.method, v.path) for v in verbs.VERBS}) == len(verbs.VERBS)
