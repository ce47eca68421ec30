"""Hold what a lab node said, ready to be said again by others.

`tests.scale.record` writes the file. What tells nodes and VMs apart (ids, names,
addresses) is a mark in it, such as "@vm_id@", and is filled in for each simulated
node and VM; all else is as it was recorded. Pure, but for `read`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node.wire import Json

FILE: Final = Path(__file__).with_name("recorded") / "node.json"


@dataclass(frozen=True, slots=True)
class Template:
    """A document whose id and body (JSON) have marks."""

    kind: str
    id: str
    body: str


@dataclass(frozen=True, slots=True)
class Change:
    """What pausing, or resuming, a VM made the node say, after coalescing."""

    documents: tuple[Template, ...]
    events: tuple[str, ...]  # JSON with marks


@dataclass(frozen=True, slots=True)
class Samples:
    origin: str  # where and when it was recorded
    node: tuple[Template, ...]  # the node, its devices, its images
    vm: tuple[Template, ...]  # a VM that is up, and its run
    pause: Change
    resume: Change
    node_stats: str
    vm_stats: str


def read(path: Path = FILE) -> Samples:
    """Return the samples of a recording."""
    return parse(json.loads(path.read_text()))


def parse(saved: Json) -> Samples:
    """Return the samples in a recording's JSON value."""
    return Samples(
        saved["origin"],
        _templates(saved["node"]),
        _templates(saved["vm"]),
        _change(saved["pause"]),
        _change(saved["resume"]),
        dump(saved["node_stats"]),
        dump(saved["vm_stats"]),
    )


def mark(value: Json, names: Mapping[str, str]) -> Json:
    """Return a JSON value in which strings that are names became their marks."""
    marks = {name: f"@{mark}@" for mark, name in names.items()}
    return _replace(value, marks)


def fill(text: str, values: Mapping[str, str | int | float]) -> str:
    """Return a text with its marks replaced; numbers lose the quotes around them."""
    for name, value in values.items():
        quoted = f'"@{name}@"'
        if quoted in text:
            text = text.replace(quoted, dump(value))
    return text


def dump(value: Json) -> str:
    """Return compact JSON, as it travels."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _replace(value: Json, marks: Mapping[str, str]) -> Json:
    if isinstance(value, str):
        return marks.get(value, value)
    if isinstance(value, list):
        return [_replace(each, marks) for each in value]
    if isinstance(value, dict):
        return {key: _replace(each, marks) for key, each in value.items()}
    return value


def _templates(saved: Json) -> tuple[Template, ...]:
    return tuple(
        Template(each["kind"], each["id"], dump(each["body"])) for each in saved
    )


def _change(saved: Json) -> Change:
    return Change(_templates(saved["documents"]), tuple(map(dump, saved["events"])))
