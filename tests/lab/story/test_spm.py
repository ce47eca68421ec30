"""Who manages a shared pool: three hosts, one folder, real sanlock six times as fast.

Each host has a storage process of its own and the pool's services, not the agent.
"""

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.lab import Lab, layout, members, running, waiting, witness
from tests.lab.story import spm_driver

pytestmark = pytest.mark.lab

HOSTS = ("h1", "h2", "h3")
MOUNT = f"{members.SHARED_STORAGE}/spm"
RUN_FOLDER = "/run/skerry-spm"
# 8 × io_timeout and the watchdog's 60, in sanlock's seconds; then a busy machine.
DEAD_S = (8 * spm_driver.IO_TIMEOUT_S + 60) / members.SANLOCK_SPEED
TIMEOUT_S = DEAD_S + 60.0
# sanlock tells who is there after its first renewal; then some rounds.
KNOWN_S = 60.0
LATER = 40  # writes of 20 ms each: a writer that lives writes in between


class Refused(Exception):
    """A host's answer was an error; its code is the first argument."""


@dataclass(slots=True)
class Host:
    """One host's storage process, and its driver."""

    member: running.Member
    pool_id: str
    _driver: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start both, as after a boot."""
        python = str(layout.VIRTUAL_ENVIRONMENT / "bin/python")
        home = ("/usr/bin/env", "--chdir", str(layout.CHECKOUT), python, "-m")
        words = ("--run-folder", RUN_FOLDER, "--cgroup", "skerry-spm")
        self.member.add_service(
            "storage",
            [*home, "node.storage.process", *words, "--log-level", "DEBUG"],
        )
        driver = "tests.lab.story.spm_driver"
        argv = [*home, driver, self.member.place.node_id, self.pool_id, MOUNT]
        log = self.member.directory / "spm-driver.log"
        with log.open("ab") as output:
            self._driver = subprocess.Popen(
                self.member.entering([*argv, RUN_FOLDER]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        socket = f"{RUN_FOLDER}/storage.sock"
        waiting.until(
            "the storage process",
            lambda: self.member.exec(["test", "-S", socket]).returncode == 0,
        )

    def ask(self, verb: str, **request: object) -> Any:
        """Return what the driver says; Refused."""
        assert self._driver is not None
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.write(json.dumps({"do": verb, **request}) + "\n")
        self._driver.stdin.flush()
        line = self._driver.stdout.readline()
        assert line, f"the driver of {self.member.name} ended"
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"], answer["message"])
        return answer["said"]

    def code(self, verb: str, **request: object) -> str:
        """Return the code of the error; empty: there was none."""
        try:
            self.ask(verb, **request)
        except Refused as error:
            return str(error.args[0])
        return ""

    def stop(self) -> None:
        if self._driver is not None:
            self._driver.kill()
            self._driver.communicate()


@dataclass(slots=True)
class Three:
    """Three hosts in one pool; h1 manages it."""

    lab: Lab
    sd: str
    hosts: dict[str, Host] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    @property
    def written(self) -> str:
        """The file that managers write, as the witness names it."""
        return f"/spm/{self.sd}/images/{spm_driver.WRITER}"

    def changes(self) -> list[witness.Change]:
        return [
            each
            for each in witness.read(self.lab.plan)
            if each.path == self.written and each.verb == "write"
        ]

    def wait_manager(self, name: str, strike: Callable[[], object]) -> float:
        """Strike, and let a host become manager as soon as it may; return how long."""
        began = time.monotonic()
        strike()

        def is_manager() -> bool:
            code = self[name].code("become")
            assert code in ("", "spm_held", "lease_busy"), code
            return not code

        waiting.until(
            f"{name} the manager", is_manager, timeout_s=TIMEOUT_S, poll_s=0.05
        )
        return time.monotonic() - began


@pytest.fixture
def three(lab: Lab) -> Iterator[Three]:
    found = Three(lab, str(uuid.uuid4()))
    pool_id = str(uuid.uuid4())
    lab.member("h1").exec(
        ["install", "-d", "-o", "36", "-g", "36", "-m", "0770", MOUNT]
    )
    try:
        for name in HOSTS:
            found.hosts[name] = Host(lab.member(name), pool_id)
            found[name].start()
        found["h1"].ask("make", sd=found.sd)
        found["h1"].ask("create", sd=found.sd)
        yield found
    finally:
        for host in found.hosts.values():
            host.stop()
        lab.restore()
        for name in HOSTS:
            lab.member(name).kill()  # sanlock must forget the lockspace
        lab.restore()
        lab.member("h1").exec(["rm", "-rf", MOUNT])


def test_one_manages_and_hands_over(three: Three) -> None:
    assert [three[name].ask("connect", sd=three.sd) for name in HOSTS] == [1, 2, 3]
    assert three["h2"].code("become") == "spm_held"
    assert three["h2"].code("touch", sd=three.sd) == "not_spm"
    three["h1"].ask("touch", sd=three.sd)
    began = time.monotonic()
    three["h1"].ask("leave")
    version = three["h2"].ask("become")
    print(f"handed over in {time.monotonic() - began:.1f} s, version {version}")
    assert version == 2
    assert three["h1"].code("touch", sd=three.sd) == "not_spm"
    three["h2"].ask("touch", sd=three.sd)
    # Who is out of reach is asked through the storage. Until sanlock has read who is
    # there, a round tells of nobody, and the manager hears no question.
    three["h3"].ask("ask", lease_version=version)

    def has_left() -> bool:
        three["h3"].ask("go_round")
        return bool(three["h2"].ask("go_round")["state"] == "free")

    waiting.until("h2 asked to leave", has_left, timeout_s=KNOWN_S)
    assert three["h3"].ask("become") == 3
    h3 = three["h3"].member.place.node_id

    def is_known() -> bool:
        three["h3"].ask("go_round")
        seen = [three[name].ask("go_round") for name in HOSTS]
        told = {(each["holder"], each["is_serving"]) for each in seen}
        members = {tuple(sorted(each["members"])) for each in seen}
        return told == {(h3, True)} and {len(each) for each in members} == {3}

    waiting.until("h3 known as the manager", is_known, timeout_s=KNOWN_S)


def test_manager_that_lost_power_is_replaced(three: Three) -> None:
    three["h2"].ask("connect", sd=three.sd)
    three["h1"].ask("write", sd=three.sd)
    waiting.until("writes of h1", three.changes)
    three["h1"].stop()
    took_s = three.wait_manager("h2", three["h1"].member.kill)
    print(
        f"free after {took_s:.1f} s, {took_s * members.SANLOCK_SPEED:.0f} of sanlock's"
    )
    # Not before its time: the last renewal was up to 1 s before the power went.
    assert DEAD_S - 3.0 < took_s < TIMEOUT_S
    three["h2"].ask("write", sd=three.sd)
    waiting.until("writes of h2", lambda: {c.host for c in three.changes()} >= {"h2"})
    assert witness.overlaps(three.changes()) == []
    three["h1"].member.boot()
    three["h1"].start()
    assert three["h1"].ask("connect", sd=three.sd) == 1
    assert three["h1"].ask("state") == "free"
    assert three["h1"].code("become") == "spm_held"
    h2 = three["h2"].member.place.node_id

    def is_seen() -> bool:
        three["h2"].ask("go_round")
        seen = three["h1"].ask("go_round")
        return (seen["holder"], seen["is_serving"]) == (h2, True)

    waiting.until("h1 sees the manager", is_seen, timeout_s=KNOWN_S)


def test_writers_of_a_manager_whose_storage_hangs_die_first(three: Three) -> None:
    three["h2"].ask("connect", sd=three.sd)
    three["h1"].ask("write", sd=three.sd)
    waiting.until("writes of h1", three.changes)
    took_s = three.wait_manager("h2", three["h1"].member.hang_storage)
    print(
        f"free after {took_s:.1f} s, {took_s * members.SANLOCK_SPEED:.0f} of sanlock's"
    )
    three["h2"].ask("write", sd=three.sd)
    waiting.until("writes of h2", lambda: {c.host for c in three.changes()} >= {"h2"})
    if three["h1"].member.is_alive():
        print(f"h1 lives, and is {three['h1'].ask('state')}")
        assert three["h1"].code("touch", sd=three.sd) == "spm_lost"
        three["h1"].member.resume_storage()
    # What hung, and was not killed, would be carried out now.
    count = len(three.changes())
    waiting.until("more of h2", lambda: len(three.changes()) >= count + LATER)
    turns = witness.turns(three.changes())
    print([(each.host, each.changes) for each in turns])
    assert [each.host for each in turns] == ["h1", "h2"]
    assert witness.overlaps(three.changes()) == []


def test_dead_manager_is_replaced_without_any_aggregator(three: Three) -> None:
    for name in ("h2", "h3"):
        three[name].ask("connect", sd=three.sd)
        three[name].ask("lose_leader")
    three["h1"].stop()
    three["h1"].member.kill()
    began = time.monotonic()

    def manager() -> str:
        for name in ("h3", "h2"):
            three[name].ask("go_round")
        states = {name: three[name].ask("state") for name in ("h3", "h2")}
        assert list(states.values()).count("serving") <= 1
        return next((name for name, state in states.items() if state == "serving"), "")

    limit_s = TIMEOUT_S + 3 * spm_driver.TIMING.turn_s
    chosen = waiting.until("a manager", manager, timeout_s=limit_s, poll_s=0.5)
    print(f"{chosen} came forward after {time.monotonic() - began:.1f} s")
    other = {"h2": "h3", "h3": "h2"}[chosen]
    assert three[other].ask("go_round")["holder"] == three[chosen].member.place.node_id
    assert three[other].code("become") == "spm_held"
