"""List hooks, and try them: what a point's scripts would make of a VM.

The scripts really run, with what they do to the host; nothing is started, and what
they make of their payload is told and thrown away.
"""

from collections.abc import Callable

from lxml import etree

from node.errors import Error, Invalid
from node.hooks import folders, schema
from node.hooks.points import POINTS
from node.hooks.runner import Occasion, Outcome, Runner
from node.hooks.vms import variables
from node.model.hooks import (
    HookList,
    HookPoint,
    HookScript,
    HookTrial,
    Payload,
    TryHook,
)
from node.model.ids import VmId
from node.model.vm import Vm
from node.policy import properties
from node.system.command import Run


class NoSuchPoint(Invalid):
    code = "no_such_hook_point"
    remedy = "`skerry-node hooks points` lists them."


class VmNeeded(Invalid):
    """The point's scripts are about a VM."""

    code = "hook_needs_vm"
    remedy = "Name a VM: --vm NAME."


class Trials:
    """The hooks of this node, for who wants to know. Any thread may call."""

    def __init__(
        self,
        runner: Runner,
        find: Callable[[VmId], Vm],
        describe: Callable[[VmId], str],
        complaint: Callable[[str], str],
        run: Run,
    ) -> None:
        """`describe` returns the domain that a VM would be started as.

        `complaint` is what libvirt says against one.
        """
        self._runner = runner
        self._find = find
        self._describe = describe
        self._complaint = complaint
        self._run = run

    def scripts(self) -> tuple[HookScript, ...]:
        """Return all scripts, by point and in the order in which they run."""
        return self._runner.scripts()

    def list(self) -> HookList:
        """Return the scripts, and what those of each point may do."""
        return self._runner.list()

    def attempt(self, request: TryHook) -> HookTrial:
        """Run a point's scripts; NoSuchPoint, VmNeeded, VmUnknown, BadProperty."""
        if request.point not in POINTS:
            raise NoSuchPoint(f"there is no point {request.point}", point=request.point)
        point = HookPoint(request.point)
        payload, named = self._prepare(point, request)
        occasion = Occasion(point, payload, named, request.vm_id or "")
        outcome = self._runner.attempt(occasion)
        return HookTrial(
            point.value,
            outcome.runs,
            payload.decode(),
            outcome.payload.decode(),
            self._error(point, payload, outcome),
            self._warnings(point, outcome),
            tuple(map(folders.describe, outcome.refused)),
        )

    def _prepare(
        self, point: HookPoint, request: TryHook
    ) -> tuple[bytes, dict[str, str]]:
        """Return what the scripts are handed, and what is in their environment."""
        properties.check(request.properties)
        named = variables(request.properties)
        kind = POINTS[point].payload
        if request.vm_id is None:
            if kind in (Payload.DOMAIN, Payload.DEVICE):
                raise VmNeeded(f"{point} is about a VM", point=point.value)
            return b"{}" if kind is Payload.JSON else b"", named
        vm = self._find(request.vm_id)
        named = {**variables(vm.spec.custom_properties), **named}
        if kind is Payload.JSON:
            return b"{}", named
        if kind is Payload.NONE:
            return b"", named
        xml = self._describe(request.vm_id)
        return (xml if kind is Payload.DOMAIN else first_card(xml)).encode(), named

    def _error(self, point: HookPoint, payload: bytes, outcome: Outcome) -> str:
        """Return why what the scripts are about would not be done; empty: it would."""
        if outcome.problem and POINTS[point].may_abort:
            return outcome.problem
        if POINTS[point].payload is not Payload.DOMAIN or outcome.payload == payload:
            return ""
        try:
            return self._complaint(outcome.payload.decode())
        except Error as error:
            return str(error)

    def _warnings(self, point: HookPoint, outcome: Outcome) -> tuple[str, ...]:
        if POINTS[point].payload is not Payload.DOMAIN or not outcome.edits:
            return ()
        return schema.ask(self._run, outcome.payload)


def first_card(xml: str) -> str:
    """Return a domain's first network card, or else its first disk. Pure."""
    root = etree.fromstring(xml)
    for path in ("devices/interface", "devices/disk"):
        if (found := root.find(path)) is not None:
            return etree.tostring(found, encoding="unicode").strip()
    return "<device/>"
