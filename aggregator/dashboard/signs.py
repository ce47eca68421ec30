"""Give each state a glyph, a tone and a word; say what may be done in it.

Pure tables. A glyph and a word always stand together, so that a page reads
without colour; the tone chooses the colour in the style sheet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from aggregator.federation.view import NodeState, NodeView, VmView
from node.model.host import NodeHealth
from node.model.job import JobState
from node.model.messages import Severity
from node.model.verbs import ActionGroup
from node.model.vm import VmState


class Tone(StrEnum):
    GOOD = "good"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Sign:
    glyph: str
    tone: Tone
    text: str


VM_SIGNS: Mapping[VmState, Sign] = {
    VmState.UP: Sign("●", Tone.GOOD, "Up"),
    VmState.DOWN: Sign("○", Tone.OFF, "Down"),
    VmState.STARTING: Sign("◔", Tone.BUSY, "Starting"),
    VmState.POWERING_UP: Sign("◑", Tone.BUSY, "Powering up"),
    VmState.POWERING_DOWN: Sign("◐", Tone.BUSY, "Powering down"),
    VmState.REBOOTING: Sign("↻", Tone.BUSY, "Rebooting"),
    VmState.PAUSED: Sign("‖", Tone.WARN, "Paused"),
    VmState.NOT_RESPONDING: Sign("▲", Tone.BAD, "Not responding"),
    VmState.UNKNOWN: Sign("?", Tone.WARN, "Unknown"),
}

VM_SUSPENDED = Sign("◇", Tone.OFF, "Suspended")

NODE_SIGNS: Mapping[NodeState, Sign] = {
    NodeState.UP: Sign("●", Tone.GOOD, "Up"),
    NodeState.SUSPECT: Sign("▲", Tone.WARN, "Silent"),
    NodeState.UNREACHABLE: Sign("✕", Tone.BAD, "Unreachable"),
    NodeState.CONNECTING: Sign("◔", Tone.BUSY, "Connecting"),
}

NODE_DEGRADED = Sign("▲", Tone.WARN, "Up, with problems")

JOB_SIGNS: Mapping[JobState, Sign] = {
    JobState.QUEUED: Sign("◔", Tone.OFF, "Waiting"),
    JobState.RUNNING: Sign("◑", Tone.BUSY, "Running"),
    JobState.DONE: Sign("✓", Tone.GOOD, "Done"),
    JobState.FAILED: Sign("✕", Tone.BAD, "Failed"),
    JobState.CANCELLED: Sign("○", Tone.OFF, "Cancelled"),
}

SEVERITY_SIGNS: Mapping[Severity, Sign] = {
    Severity.NORMAL: Sign("·", Tone.OFF, "Normal"),
    Severity.WARNING: Sign("▲", Tone.WARN, "Warning"),
    Severity.ERROR: Sign("✕", Tone.BAD, "Error"),
    Severity.ALERT: Sign("✕", Tone.BAD, "Alert"),
}


def node_sign(node: NodeView) -> Sign:
    """Return the sign of a node; one that is up may have problems of its own."""
    if node.state is NodeState.UP and (
        node.reason or (node.facts and node.facts.health is NodeHealth.DEGRADED)
    ):
        return NODE_DEGRADED
    return NODE_SIGNS[node.state]


def vm_sign(vm: VmView) -> Sign:
    """Return the sign of a VM; one that is down may have its memory kept."""
    return VM_SUSPENDED if vm.is_suspended else VM_SIGNS[vm.state]


_RUNNING = frozenset(
    {
        VmState.UP,
        VmState.POWERING_UP,
        VmState.POWERING_DOWN,
        VmState.REBOOTING,
        VmState.PAUSED,
        VmState.NOT_RESPONDING,
    }
)


def has_screen(state: VmState) -> bool:
    """Say whether there is a QEMU whose screen and serial line can be read."""
    return state in _RUNNING


@dataclass(frozen=True, slots=True)
class Action:
    """What a person may ask of a VM, and what to know before."""

    name: str
    label: str
    group: ActionGroup
    states: frozenset[VmState]
    warning: str = ""  # not empty: it is asked for again, with this text
    is_inline: bool = False  # a button of its own in every row
    needs_memory: bool = False  # that is kept: the VM is suspended


ACTIONS: tuple[Action, ...] = (
    Action(
        "start",
        "Start",
        ActionGroup.RUN_VM,
        frozenset({VmState.DOWN}),
        is_inline=True,
    ),
    Action(
        "resume",
        "Resume",
        ActionGroup.RUN_VM,
        frozenset({VmState.PAUSED}),
        is_inline=True,
    ),
    Action(
        "shutdown",
        "Shut down",
        ActionGroup.STOP_VM,
        frozenset({VmState.UP, VmState.POWERING_UP, VmState.REBOOTING}),
        is_inline=True,
    ),
    Action(
        "pause",
        "Pause",
        ActionGroup.STOP_VM,
        frozenset({VmState.UP, VmState.POWERING_UP}),
    ),
    Action(
        "suspend",
        "Suspend",
        ActionGroup.STOP_VM,
        frozenset({VmState.UP, VmState.POWERING_UP, VmState.PAUSED}),
    ),
    Action(
        "reset",
        "Reset",
        ActionGroup.RESET_VM,
        _RUNNING - {VmState.POWERING_DOWN},
        "The guest is reset as if its reset button were pressed: what it has not "
        "written to its disks is lost.",
    ),
    Action(
        "stop",
        "Stop by force",
        ActionGroup.STOP_VM,
        _RUNNING | {VmState.STARTING},
        "The VM ends at once, as if its power were cut: what its guest has not "
        "written to its disks is lost. Shut it down instead if it still answers.",
    ),
    Action(
        "discard",
        "Discard memory",
        ActionGroup.STOP_VM,
        frozenset({VmState.DOWN}),
        "The memory that was kept is discarded, as if the VM's power had been cut when "
        "it was suspended: what its guest had not written to its disks is lost.",
        needs_memory=True,
    ),
    Action(
        "delete",
        "Delete",
        ActionGroup.DELETE_VM,
        frozenset({VmState.DOWN}),
        "The VM and its disks are deleted. Nothing brings them back.",
    ),
)

ACTION_BY_NAME: Mapping[str, Action] = {action.name: action for action in ACTIONS}


def possible_actions(
    state: VmState, *, is_suspended: bool = False
) -> tuple[Action, ...]:
    """Return what may be asked of a VM in this state, the usual first."""
    return tuple(
        action
        for action in ACTIONS
        if state in action.states and (is_suspended or not action.needs_memory)
    )
