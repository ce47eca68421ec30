"""Break a pool's storage while it is used, seed after seed: part of `make soak`.

A seed is one run: disks are made, grown, copied, moved and deleted, a guest writes
stamps, is suspended and goes on, its snapshots come and go, VMs are made of
templates, and in the middle something breaks. Then all is mended, and within a bound
the pool must be whole: no acknowledged write lost, no double writer by the lab's
witness, chains legal, no space leaked, no lock left. A run needs none before it:
`--seed N --runs 1` has it again.
"""

import argparse
import concurrent.futures
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from aggregator.api.model import OrderLine
from node.clock import parse_rfc3339
from node.errors import Error, NotFound, Unavailable
from node.model.job import JobState
from tests.lab import (
    errors,
    fleet,
    lab,
    layout,
    mirror,
    running,
    soak,
    soak_break,
    soak_pool_checks,
    soak_pool_look,
    soak_pool_plan,
    soak_pool_stage,
    soak_pool_vms,
)
from tests.lab.agents import Refused
from tests.lab.members import SANLOCK_SPEED
from tests.lab.soak_pool_plan import Fault, Kind, Run, Strand, Target, Task, Work
from tests.lab.soak_pool_stage import ORDER_ENDS_S, Stage
from tests.ports import free_port

RUNS: Final = 25
LAB_ID: Final = "soak"
# All that was ever written in a lab is read, and judged, after each run.
_RUNS_OF_A_LAB: Final = 10
# A lease of a host without power is free after 24 s; joining anew takes as long.
_WHOLE_S: Final = 180.0
_LOOK_EVERY_S: Final = 1.0
_TOLD_S: Final = 3.0
_OUR_BUGS: Final = frozenset({"internal_error", "bad_reply", "not_found"})
_FAILURES: Final = {
    Kind.NO_SPACE: mirror.Fault.ENOSPC,
    Kind.IO_ERROR: mirror.Fault.EIO,
    Kind.READ_ONLY: mirror.Fault.READONLY,
}


@dataclass(slots=True)
class Result:
    """What a run has shown."""

    seed: int
    wrong: list[str] = field(default_factory=list)
    took_s: float = 0.0
    # until another manager served, or the same one under a new lease; None: it stayed
    unmanaged_s: float | None = None


def main() -> int:
    """Soak; the status is 1 if anything was wrong, also at taking down."""
    arguments = _parser().parse_args()
    logging.basicConfig(level="ERROR", format="  %(message)s", stream=sys.stderr)
    settings = layout.read_settings({"SKERRY_LAB_ID": LAB_ID, **os.environ})
    last = arguments.seed + arguments.runs - 1
    _say(f"soak of storage: seeds {arguments.seed} to {last}")
    is_well = False
    try:
        is_well = _soak(settings, arguments)
    finally:
        if arguments.keep:
            _say(f"the lab is kept; SKERRY_LAB_ID={settings.lab_id} names it")
        else:
            if not is_well:
                soak.save_logs(settings)
            is_well = soak.is_gone(settings) and is_well
    return 0 if is_well else 1


def _soak(settings: layout.Settings, arguments: argparse.Namespace) -> bool:
    """Run the seeds, so many in each lab; tell whether all was well."""
    results: list[Result] = []
    try:
        for number in range(arguments.runs):
            if number % _RUNS_OF_A_LAB == 0:
                lab.take_down(settings)
                stage = set_up(lab.Lab.up(soak.HOSTS, 1, settings))
            seed = arguments.seed + number
            results.append(run(stage, seed, is_brief=arguments.brief, say=_say))
            if results[-1].wrong:
                _say(
                    f"again: .venv/bin/python -m {__spec__.name} --seed {seed} --runs 1"
                )
                break
    except (Error, Refused) as error:
        _say(f"FAILED: {error}")
        return False
    _say(summary(results))
    return not any(result.wrong for result in results)


def set_up(running_lab: lab.Lab) -> Stage:
    """Return a fleet of this lab's hosts with a pool, disks and a VM."""
    port = free_port()
    running_lab.forward(port)
    stage = soak_pool_stage.gather(fleet.Fleet(running_lab, port))
    stage.make()
    return stage


def summary(results: list[Result]) -> str:
    """Return what all runs have shown, in a few lines."""
    waits = [each.unmanaged_s for each in results if each.unmanaged_s is not None]
    fast = [SANLOCK_SPEED * each for each in waits]
    wrong = [str(each.seed) for each in results if each.wrong]
    return "\n".join(
        [
            f"{len(results)} runs; wrong: {', '.join(wrong) or 'none'}",
            f"runs: {soak_pool_checks.spread([each.took_s for each in results])}",
            f"until a manager served again: {soak_pool_checks.spread(waits)}",
            f"  if all of it were sanlock's: {soak_pool_checks.spread(fast)}",
        ]
    )


def run(stage: Stage, seed: int, *, is_brief: bool, say: soak.Say) -> Result:
    """Do one seed's run, and judge it."""
    begin = time.monotonic()
    count = len(stage.hosts)
    plan = soak_pool_plan.plan(seed, stage.fixed, count, is_brief=is_brief)
    say(f"seed {seed}: {soak_pool_plan.describe(plan.fault)}")
    result = Result(seed)
    try:
        if not stage.runner():
            chosen = stage.manager() if plan.host is None else stage.hosts[plan.host]
            stage.start_vm(chosen)
        actor = _Actor(stage, plan, say)
        result.wrong += actor.carry_out()
        stage.lab.restore()
        result.wrong += _until_whole(stage)
        result.unmanaged_s = actor.unmanaged_s()
        if not result.wrong and actor.amend():
            result.wrong += _until_whole(stage)
        if not result.wrong:
            result.wrong += soak_pool_look.silence(stage)
        result.wrong += soak_pool_look.losses(stage)
        result.wrong += soak_pool_look.alarms(stage)
    except (Error, Refused, ValueError) as error:
        result.wrong.append(f"{type(error).__name__}: {error}")
    result.took_s = time.monotonic() - begin
    for line in result.wrong:
        say(f"  WRONG: {line}")
    waited_s = result.unmanaged_s
    waited = "" if waited_s is None else f", {waited_s:.1f} s without a manager"
    say(f"  {'FAILED' if result.wrong else 'is well'}: {result.took_s:.0f} s{waited}")
    return result


def _until_whole(stage: Stage) -> list[str]:
    """Wait until nothing is amiss; return what is after the bound."""
    deadline = time.monotonic() + _WHOLE_S
    while True:
        try:
            left = soak_pool_look.problems(stage)
        except (Error, Refused) as error:
            left = [f"somebody does not answer: {error}"]
        except FileNotFoundError as error:
            left = [f"files come and go: {error}"]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(_LOOK_EVERY_S)


class _Actor:
    """Does what a run has planned, strand by strand, and breaks what it says."""

    def __init__(self, stage: Stage, plan: Run, say: soak.Say) -> None:
        self._stage = stage
        self._plan = plan
        self._say = say
        self._begin = time.monotonic()
        self._broken_at = datetime.now(UTC)
        self._over = threading.Event()
        # As they are before anything breaks: nobody can be asked later.
        self._manager = stage.manager()
        self._runner = stage.runner()

    def carry_out(self) -> list[str]:
        """Do everything; return what must not be."""
        self._begin = time.monotonic()
        strands = self._plan.strands
        with concurrent.futures.ThreadPoolExecutor(len(strands) + 1) as pool:
            fault = pool.submit(self._break)
            wrong = [line for found in pool.map(self._work, strands) for line in found]
            fault.result()
        return wrong

    def unmanaged_s(self) -> float | None:
        """Return how long after the fault a manager served anew; None: it stayed."""
        for event in soak_pool_look.terms(self._stage):
            late_s = (parse_rfc3339(event.at) - self._broken_at).total_seconds()
            if late_s > 0:
                return late_s
        return None

    def amend(self) -> bool:
        """Remove what the run has left over; all is well now, so it must succeed.

        Tell whether there was anything.
        """
        there = {disk.disk_id for disk in self._stage.client.disk_list().disks}
        left = [each for each in soak_pool_plan.new_disks(self._plan) if each in there]
        for disk_id in left:
            line = self._stage.finish(self._stage.ask(Task(Work.DELETE, disk_id)))
            if line.state is not JobState.DONE:
                raise errors.StepFailed("delete", str(line.error), remedy="see logs")
        return soak_pool_vms.amend(self._stage) or bool(left)

    def _work(self, strand: Strand) -> list[str]:
        self._wait(strand.at_s)
        wrong = []
        for task in strand.tasks:
            code = self._do(task)
            whom = (task.disk_id or task.made_id or "the VM")[:8]
            told = f"{task.work} {whom}: {code or 'done'}"
            self._say(f"  {time.monotonic() - self._begin:5.1f} s  {told}")
            if code in _OUR_BUGS or code.startswith("open"):
                wrong.append(told)
        return wrong

    def _do(self, task: Task) -> str:
        """Return the code of the error; empty: there was none."""
        try:
            if task.work is Work.GO_ON:
                soak_pool_vms.go_on(self._stage, self._stage.hosts[task.host])
                return ""
            line = self._stage.finish(self._ask(task))
        except Error as error:
            return error.code
        except Refused as error:
            return str(error.args[0])
        if line.state is JobState.DONE:
            return ""
        return line.error.code if line.error else f"open: {line.step}"

    def _ask(self, task: Task) -> OrderLine:
        """Order a task; as long as nobody answers, order it again.

        A disk that was made a moment ago is told of a moment later.
        """
        asked = time.monotonic()
        while True:
            late_s = time.monotonic() - asked
            try:
                if task.disk_id is None:
                    return soak_pool_vms.ask(self._stage, task)
                return self._stage.ask(task)
            except Unavailable:
                if late_s > ORDER_ENDS_S:
                    raise
            except NotFound:
                if late_s > _TOLD_S:
                    raise
            self._over.wait(0.5)

    def _break(self) -> None:
        fault = self._plan.fault
        self._wait(fault.at_s)
        self._broken_at = datetime.now(UTC)
        member = self._stage.lab.member(self._name(fault.target))
        told = self._play(member, fault)
        late_s = time.monotonic() - self._begin
        self._say(f"  {late_s:5.1f} s  {fault.kind} {member.name}: {told}")

    def _play(self, member: running.Member, fault: Fault) -> str:
        lasts_s, pause = fault.duration_s, self._over.wait
        match fault.kind:
            case Kind.KILL:
                return soak_break.kill(member.service_pid(fault.service))
            case Kind.FREEZE:
                return soak_break.freeze(member, fault.service, lasts_s, pause)
            case Kind.POWER:
                return soak_break.power(member, lasts_s, pause)
            case Kind.CUT:
                return soak_break.cut(member, lasts_s, pause)
            case Kind.HANG:
                return soak_break.hang(member, lasts_s, pause)
        return soak_break.fail(
            member, _FAILURES[fault.kind], lasts_s, pause, soak_break.DISKS
        )

    def _name(self, target: Target) -> str:
        if target is Target.AGGREGATOR:
            return "a1"
        if target is Target.MANAGER:
            return self._manager
        if target is Target.RUNNER:
            return self._runner
        busy = (self._manager, self._runner)
        return next(name for name in self._stage.hosts if name not in busy)

    def _wait(self, at_s: float) -> None:
        self._over.wait(max(0.0, self._begin + at_s - time.monotonic()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.soak_pool",
        description="Break a pool, and check it. The lab is called"
        f" {LAB_ID!r}, or what SKERRY_LAB_ID says.",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=time.time_ns() // 1_000_000_000 % 1_000_000,
        help="the first; each decides all that its run does",
    )
    parser.add_argument("--runs", type=int, default=RUNS, help="how many seeds")
    parser.add_argument(
        "--brief", action="store_true", help="only what costs no host its leases"
    )
    parser.add_argument("--keep", action="store_true", help="leave the lab as it is")
    return parser


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
