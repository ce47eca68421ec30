"""Run the hooks of VMs, and say on the VM what they said and did.

What has been done is told by jobs, one VM's after the other: they go on after a restart
of the agent, and a script that hangs holds up nobody else.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from node import jobs, wire
from node.contract.hooks import Describe, Edited, HookEditRefused, Properties
from node.errors import Error
from node.hooks import schema
from node.hooks.points import POINTS
from node.hooks.runner import HookFailed, Occasion, Outcome, Runner
from node.jobs import Jobs, Progress
from node.model.hooks import HookPoint
from node.model.ids import CorrelationId, VmId
from node.model.properties import CustomProperty
from node.model.vm import Vm
from node.store import Store
from node.system.command import Run

log = logging.getLogger(__name__)

VERB: Final = "hook_tell"
CHECK: Final = "hook_check"
KIND: Final = "hook"
_SAID_MAX: Final = 2000  # of one script, in an event


class VmHooks:
    """The hooks of this node's VMs. Any thread may call."""

    def __init__(
        self,
        runner: Runner,
        store: Store,
        job_queue: Jobs,
        run: Run,
        *,
        is_strict: Callable[[], bool] = lambda: False,
    ) -> None:
        """`run` is what asks the schema about domains that scripts have changed.

        `is_strict`: what it complains of does not start.
        """
        self._is_strict = is_strict
        self._run_program = run
        self._runner = runner
        self._store = store
        self._jobs = job_queue

    def edit(
        self, point: HookPoint, vm: Vm, text: str, more: Properties = ()
    ) -> Edited:
        """Let scripts change XML, or JSON; HookFailed."""
        assert POINTS[point].counts, point
        if not self._runner.has_scripts(point):
            return Edited(text)
        outcome = self._run(point, vm, _named(vm, more), text)
        edits = tuple((name, each.decode()) for name, each in outcome.edits)
        if edits and point is HookPoint.BEFORE_VM_START:
            self._look(vm, edits)
        return Edited(outcome.payload.decode(), edits)

    def _look(self, vm: Vm, edits: tuple[tuple[str, str], ...]) -> None:
        """Have the schema asked: before the start if that is to decide, else aside."""
        scripts = [script for script, _ in edits]
        if not self._is_strict():
            self._submit(CHECK, vm, {"scripts": scripts}, edits[-1][1])
            return
        for script, xml in edits:
            complaints = schema.ask(self._run_program, xml.encode())
            if complaints:
                raise HookEditRefused(
                    f"the edit of {script} is not in libvirt's schema, and this fleet "
                    f"is strict: {'; '.join(complaints)[:_SAID_MAX]}",
                    script=script,
                )

    def ask(
        self, point: HookPoint, vm: Vm, describe: Describe, more: Properties = ()
    ) -> None:
        """Let scripts forbid what is about to be done; HookFailed."""
        if self._runner.has_scripts(point):
            self._run(point, vm, _named(vm, more), _described(describe))

    def tell(
        self, point: HookPoint, vm: Vm, describe: Describe, more: Properties = ()
    ) -> None:
        """Let scripts know what has been done."""
        assert not POINTS[point].may_abort, point
        if not self._runner.has_scripts(point):
            return
        what = {"point": point.value, "variables": _named(vm, more)}
        self._submit(VERB, vm, what, _described(describe))

    def job_handlers(self) -> Mapping[str, jobs.Handler]:
        """Return what runs an unfinished job of ours again, by verb."""

        def handler(verb: str) -> jobs.Handler:
            act = self._works[verb]
            return lambda job, arguments: lambda progress: act(arguments, progress)

        return {verb: handler(verb) for verb in self._works}

    @property
    def _works(self) -> Mapping[str, Callable[[wire.Json, Progress], None]]:
        return {VERB: self._tell, CHECK: self._check}

    def _submit(self, verb: str, vm: Vm, what: dict[str, wire.Json], xml: str) -> None:
        """Take on a job about a VM; it cannot be, and that is all, if there are many.

        What scripts are told of is done: nobody can take it back.
        """
        vm_id, name = vm.spec.vm_id, vm.spec.name
        asked = {**what, "vm_id": vm_id, "name": name, "xml": xml}
        act = self._works[verb]
        try:
            self._jobs.submit(
                verb,
                KIND,
                vm_id,
                lambda progress: act(asked, progress),
                job_id=None,
                arguments=asked,
            )
        except Error as error:
            log.error("%s of VM %s is not done: %s", verb, vm_id, error)

    def _check(self, asked: wire.Json, progress: Progress) -> None:
        """Say on a VM what libvirt's schema has against what scripts made of it."""
        complaints = schema.ask(self._run_program, asked["xml"].encode())
        if not complaints:
            return
        with self._store.change() as change:
            change.event(
                "hook_edit_unusual",
                vm_id=VmId(asked["vm_id"]),
                name=asked["name"],
                script=", ".join(asked["scripts"]),
                detail="; ".join(complaints)[:_SAID_MAX],
            )

    def _run(
        self, point: HookPoint, vm: Vm, named: Mapping[str, str], xml: str
    ) -> Outcome:
        occasion = Occasion(point, xml.encode(), named, vm.spec.vm_id)
        outcome = self._runner.attempt(occasion)
        self._note(occasion, outcome, vm.spec.name)
        self._runner.check(point, outcome)
        return outcome

    def _tell(self, asked: wire.Json, progress: Progress) -> None:
        point = HookPoint(asked["point"])
        progress.step(10, point)
        named, vm_id = asked["variables"], asked["vm_id"]
        occasion = Occasion(point, asked["xml"].encode(), named, vm_id)
        outcome = self._runner.attempt(occasion)
        self._note(occasion, outcome, asked["name"], progress.job.correlation_id)
        if outcome.problem:
            raise HookFailed(f"{point}: {outcome.problem}", point=point.value)

    def _note(
        self,
        occasion: Occasion,
        outcome: Outcome,
        name: str,
        correlation_id: CorrelationId | None = None,
    ) -> None:
        """Keep as events of the VM what its scripts said, and which failed."""
        told = [each for each in outcome.runs if each.problem or each.said]
        if not told and not outcome.refused:
            return
        vm_id = VmId(occasion.vm_id)
        point = str(occasion.point)
        with self._store.change() as change:
            for run in told:
                code = "hook_failed" if run.problem else "hook_said"
                detail = run.problem or run.said[-_SAID_MAX:]
                change.event(
                    code,
                    vm_id=vm_id,
                    correlation_id=correlation_id,
                    name=name,
                    point=point,
                    script=run.script,
                    detail=detail,
                )
            for script in outcome.refused:
                change.event(
                    "hook_refused",
                    vm_id=vm_id,
                    name=name,
                    point=point,
                    script=script.name,
                    detail=script.refused,
                )


def variables(properties: tuple[CustomProperty, ...]) -> dict[str, str]:
    """Return what a script finds in its environment of custom properties."""
    return {each.name: each.value for each in properties}


def _named(vm: Vm, more: Properties) -> dict[str, str]:
    return variables((*vm.spec.custom_properties, *more))


def _described(describe: Describe) -> str:
    """Return XML; without, if there is nobody left to ask."""
    try:
        return describe()
    except Error as error:
        log.info("hooks get no XML: %s", error)
        return "<domain/>"
