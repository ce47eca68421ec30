"""Say what an aggregator's scripts are run before and after. One table.

    before_<action>       may forbid it; whoever asked is told why
    after_<action>        it is done
    after_<action>_fail   it is not: it was forbidden, refused, or went wrong

Pure. All get JSON (see `deeds`), and no edit counts. An action is what people mean: a
VM that is made of a template, or taken over with its storage, is created.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from node.model.hooks import Payload, Point

# Who asked waits for these in a connection of theirs, which others want as well.
_ANSWER_S: Final = 10.0
_ORDER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Action:
    """Something that an aggregator does; its orders are of these verbs."""

    verbs: frozenset[str] = frozenset()
    timeout_s: float = _ORDER_S
    waits_for: str = ""  # what it is a part of, while nothing here does that yet


def _by(*verbs: str) -> Action:
    return Action(frozenset(verbs))


ACTIONS: Final[Mapping[str, Action]] = {
    "vm_create": _by("vm_create", "vm_clone", "storage_domain_register_vm"),
    "vm_start": _by("vm_start"),
    "vm_pause": _by("vm_pause"),
    "vm_resume": _by("vm_resume"),
    "vm_reset": _by("vm_reset"),
    "vm_stop": _by("vm_stop"),
    "vm_suspend": _by("vm_suspend"),
    "vm_migrate": Action(waits_for="migration"),
    "vm_delete": _by("vm_delete"),
    "vm_export": _by("vm_export"),
    "snapshot_create": _by("vm_snapshot_create"),
    "snapshot_restore": _by("vm_snapshot_preview"),
    "snapshot_delete": _by("vm_snapshot_delete"),
    "disk_create": _by("disk_create"),
    "disk_delete": _by("disk_delete"),
    "storage_domain_attach": _by(
        "storage_domain_create", "storage_domain_import", "storage_domain_attach"
    ),
    "storage_domain_detach": _by("storage_domain_detach"),
    "node_admit": Action(timeout_s=_ANSWER_S),
    "node_remove": Action(timeout_s=_ANSWER_S),
    "node_fence": Action(waits_for="fencing"),
}
_BY_VERB: Final = {verb: name for name, it in ACTIONS.items() for verb in it.verbs}


def action_of(verb: str) -> str | None:
    """Return the action that an order of a verb is; None: it has no points."""
    return _BY_VERB.get(verb)


def before(action: str) -> str:
    """Return the point of scripts that may forbid an action."""
    return f"before_{action}"


def after(action: str, *, is_done: bool) -> str:
    """Return the point of scripts that are told how it ended."""
    return f"after_{action}" if is_done else f"after_{action}_fail"


def all_of(action: str) -> tuple[str, str, str]:
    """Return the points of an action."""
    done, failed = (after(action, is_done=is_done) for is_done in (True, False))
    return before(action), done, failed


def _table() -> Mapping[str, Point]:
    table: dict[str, Point] = {}
    for name, it in ACTIONS.items():
        asking, *telling = all_of(name)
        table[asking] = Point(
            Payload.JSON, True, timeout_s=it.timeout_s, waits_for=it.waits_for
        )
        for point in telling:  # nobody waits for these
            table[point] = Point(Payload.JSON, waits_for=it.waits_for)
    return table


POINTS: Final = _table()
