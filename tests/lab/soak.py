"""Break a running fleet at random for a while, and check it: `make soak`.

A lab of its own, a seed, and rounds: orders and faults at once, then everything is
mended, and within a bound the fleet must be whole and nothing must be lost. The
first violation ends it; the seed and the round are printed, so that it can be had
again (`--seed`), and `--keep` leaves the lab as it is.
"""

import argparse
import concurrent.futures
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from node.errors import Error
from node.model.ids import VmId
from node.model.vm import VmState
from node.units import MINUTE_S
from tests.lab import (
    errors,
    fleet,
    lab,
    layout,
    members,
    soak_checks,
    soak_plan,
)
from tests.lab.soak_act import Actor, Outcome
from tests.lab.soak_checks import Ledger, Observation
from tests.lab.soak_look import Looker
from tests.lab.soak_plan import Round, Step
from tests.ports import free_port

MINUTES: Final = 20.0
HOSTS: Final = 3
LAB_ID: Final = "soak"
# A guest that boots while two others do is up within a minute, emulated.
_SETTLED_S: Final = 150.0
_LOOK_EVERY_S: Final = 2.0
_WATCH_EVERY_S: Final = 0.5
Say = Callable[[str], None]
_LOGS: Final = members.CHECKOUT / "build" / "soak"


class SoakFailed(errors.StepFailed):
    """Something that must never be was seen."""

    code = "soak_failed"


def main() -> int:
    """Soak; the status is 1 if anything was wrong, also at taking down."""
    arguments = _parser().parse_args()
    logging.basicConfig(level="ERROR", format="  %(message)s", stream=sys.stderr)
    environment = {"SKERRY_LAB_ID": LAB_ID, **os.environ}
    settings = layout.read_settings(environment)
    _say(f"soak {_words(arguments)}, in lab {settings.lab_id}")
    is_well = False
    try:
        is_well = _soak(settings, arguments)
    finally:
        if arguments.keep:
            _say(f"the lab is kept; SKERRY_LAB_ID={settings.lab_id} names it")
        else:
            if not is_well:
                save_logs(settings)
            is_well = is_gone(settings) and is_well
    return 0 if is_well else 1


def _soak(settings: layout.Settings, arguments: argparse.Namespace) -> bool:
    """Bring the lab up and soak it; tell whether all was well."""
    try:
        lab.take_down(settings)
        running = lab.Lab.up(arguments.hosts, 1, settings)
        Soak(running).run(arguments.seed, arguments.minutes * MINUTE_S)
    except Error as error:
        _say(f"FAILED: {error}")
        _say(f"again: .venv/bin/python -m tests.lab.soak {_words(arguments)}")
        return False
    return True


def is_gone(settings: layout.Settings) -> bool:
    """Take the lab down; tell whether nothing is left of it."""
    try:
        lab.take_down(settings)
    except errors.LabError as error:
        _say(f"FAILED: {error}")
        return False
    _say("the lab is down, and nothing is left of it")
    return True


class Soak:
    """A fleet that is set up, and what is known of it."""

    def __init__(self, running: lab.Lab) -> None:
        self._begin = time.monotonic()
        self._lab = running
        port = free_port()
        running.forward(port)
        self._fleet = fleet.Fleet(running, port)
        self._fleet.initialise()
        client = self._fleet.log_in()
        self._fleet.wait_candidates(client)
        self._fleet.admit_all(client)
        self._fleet.wait_up(client)
        self._ledger = Ledger()
        self._over = threading.Event()
        self._looker = Looker(self._fleet, client)
        self._actor = Actor(self._fleet, client, self._ledger, self._over.wait)
        self._doubles: set[str] = set()

    def run(self, seed: int, seconds: float) -> None:
        """Run rounds for so long; SoakFailed at the first violation."""
        watch = threading.Thread(target=self._watch, name="watch")
        watch.start()
        count = 0
        try:
            hosts = [host.name for host in self._fleet.hosts()]
            for each in soak_plan.rounds(seed, hosts):
                if time.monotonic() - self._begin > seconds:
                    break
                self._run_round(each)
                count = each.number
        finally:
            self._over.set()
            watch.join()
        self._say(f"{count} rounds, seed {seed}: nothing was wrong")

    def _run_round(self, each: Round) -> None:
        self._say(f"round {each.number}")
        for step in each.steps:
            self._say(f"  plan {step.at_s:6.2f} s  {soak_plan.describe(step)}")
        wrong = self._carry_out(each.steps)
        self._lab.restore()
        seen = self._settle(each, wrong)
        for order in soak_plan.amends(each, _existing(seen), _running(seen)):
            if told := self._actor.must(order):
                raise self._failed(each, [told])
            self._say(f"  amended: {soak_plan.describe(order)}")
        seen = self._settle(each, [])
        states = ", ".join(f"{vm.name} {vm.state}" for vm in seen.view)
        self._say(f"  round {each.number} is well: {states or 'no VM'}")

    def _carry_out(self, steps: tuple[Step, ...]) -> list[str]:
        """Begin each step at its time; return what must not be, when all ended."""
        begin = time.monotonic()

        def carry_out(step: Step) -> Outcome:
            self._over.wait(max(0.0, begin + step.at_s - time.monotonic()))
            outcome = self._actor.carry_out(step)
            self._say(f"  {soak_plan.describe(step)}: {outcome.text}")
            return outcome

        with concurrent.futures.ThreadPoolExecutor(len(steps)) as pool:
            outcomes = list(pool.map(carry_out, steps))
        return [outcome.problem for outcome in outcomes if outcome.problem]

    def _settle(self, each: Round, wrong: list[str]) -> Observation:
        """Wait until the fleet is whole; SoakFailed if it does not become so."""
        begin = time.monotonic()
        while True:
            try:
                seen = self._looker.observe()
                left = soak_checks.violations(seen, self._ledger)
            except Error as error:
                seen, left = None, [f"somebody does not answer: {error}"]
            if seen is not None and not left:
                break
            if time.monotonic() - begin > _SETTLED_S:
                raise self._failed(each, [*wrong, *left])
            self._over.wait(_LOOK_EVERY_S)
        wrong = [*wrong, *self._histories(each), *sorted(self._doubles)]
        if wrong:
            raise self._failed(each, wrong)
        self._say(f"  settled after {time.monotonic() - begin:.0f} s")
        self._actor.places = {vm.vm_id: vm.node for vm in seen.view}
        return seen

    def _histories(self, each: Round) -> list[str]:
        """Return what is wrong with the events and the logs since the last look."""
        told = [
            event
            for host in self._fleet.hosts()
            for event in self._looker.node_events(host.name)
        ]
        fresh = self._looker.new_events()
        wrong = [
            *soak_checks.false_alarms(fresh, each.silenced),
            *soak_checks.repeated_events(self._looker.events),
            *soak_checks.lost_events(told, self._looker.events),
        ]
        for name, text in self._looker.new_logs().items():
            wrong += [f"{name}: {line}" for line in soak_checks.bad_lines(text)]
        return wrong

    def _watch(self) -> None:
        """Look all the time whether a VM runs twice."""
        while not self._over.wait(_WATCH_EVERY_S):
            self._doubles |= set(soak_checks.doubles(self._looker.processes()))

    def _failed(self, each: Round, wrong: list[str]) -> SoakFailed:
        for line in wrong:
            self._say(f"  WRONG: {line}")
        return SoakFailed(
            f"round {each.number}",
            f"{len(wrong)} things are wrong: {wrong[0]}",
            remedy="read the lines above and the logs of the members",
        )

    def _say(self, text: str) -> None:
        _say(f"{time.monotonic() - self._begin:7.1f} s  {text}")


def _existing(seen: Observation) -> frozenset[VmId]:
    return frozenset(vm.vm_id for vm in seen.view)


def _running(seen: Observation) -> frozenset[VmId]:
    return frozenset(vm.vm_id for vm in seen.view if vm.state is not VmState.DOWN)


def _words(arguments: argparse.Namespace) -> str:
    """Return the options that do the same again."""
    words = f"--seed {arguments.seed} --minutes {arguments.minutes:g}"
    return f"{words} --hosts {arguments.hosts}"


def save_logs(settings: layout.Settings) -> None:
    """Keep what the members logged: the lab goes."""
    shutil.rmtree(_LOGS, ignore_errors=True)
    for folder in settings.directory.glob("members/*/var.u/log/lab"):
        shutil.copytree(folder, _LOGS / folder.parents[2].name)
    _say(f"the logs of the members are in {_LOGS}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.soak", description="Break a fleet and check it."
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=time.time_ns() % 1_000_000,
        help="decides all that is done; a new one unless told",
    )
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="how long rounds begin"
    )
    parser.add_argument("--hosts", type=int, default=HOSTS)
    parser.add_argument("--keep", action="store_true", help="leave the lab as it is")
    return parser


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
