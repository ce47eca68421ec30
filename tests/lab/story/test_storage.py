"""One pool of three nodes through their agents: no aggregator says what to do.

Real sanlock six times as fast, two storage domains on one file system that each host
mounts for itself. Everything is asked of the nodes' own command lines.
"""

import functools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.lab import Lab, fleet, layout, members, running, waiting

pytestmark = pytest.mark.lab

HOSTS = ("h1", "h2", "h3")
FOLDER = f"{members.SHARED_STORAGE}/pool"
PROGRAM = str(layout.VIRTUAL_ENVIRONMENT / "bin/skerry-node")
# 8 × io_timeout and the watchdog's 60, in sanlock's seconds; then a busy machine.
FREE_S = (8 * 10 + 60) / members.SANLOCK_SPEED + 60.0
# A check gives up after 10 s, and is made each 10 s; then a busy machine.
TOLD_S = 60.0


class Refused(Exception):
    """What a node's command line complained of."""


@dataclass(slots=True)
class Pool:
    """Three hosts in one pool, `main`, with the storage domains alpha and beta."""

    lab: Lab

    def member(self, name: str) -> running.Member:
        return self.lab.member(name)

    def ask(self, name: str, *words: str) -> Any:
        """Return what a node says, as JSON; Refused."""
        result = self.member(name).exec([PROGRAM, "--json", *words])
        if result.returncode != 0:
            raise Refused(f"{name} {words}: {result.stderr.strip()[-400:]}")
        return json.loads(result.stdout or "null")

    def show(self, name: str) -> Any:
        return self.ask(name, "pool", "show", "main")

    def manager(self, name: str) -> str:
        """Return who manages the pool, as a node sees it; empty: nobody."""
        holder = self.show(name)["spm"].get("holder", "")
        by_id = {self.member(each).place.node_id: each for each in HOSTS}
        return by_id.get(holder, "")

    def domain(self, node: str, name: str) -> Any:
        return self.ask(node, "storage", "show", name)

    def disk_names(self, node: str) -> set[str]:
        return {each["name"] for each in self.ask(node, "disk", "list")["disks"]}

    def spm_events(self, name: str) -> list[str]:
        """Return what a node told of its part as manager of the pool."""
        result = self.member(name).exec([PROGRAM, "--json", "events"])
        told, codes = result.stdout, []
        while told.strip():
            event, end = json.JSONDecoder().raw_decode(told.strip())
            told = told.strip()[end:]
            if event["code"].startswith("spm_") and event["fields"]["pool"] == "main":
                codes.append(event["code"])
        return codes

    def until(
        self, what: str, look: Callable[[], object], timeout_s: float = 60.0
    ) -> float:
        """Wait until something is so; return how long it took."""
        began = time.monotonic()

        def is_so() -> bool:
            try:
                return bool(look())
            except Refused:
                return False

        waiting.until(what, is_so, timeout_s=timeout_s)
        return time.monotonic() - began

    def crash(self, name: str, service: str, words: str) -> None:
        """End a service as a crash does; it is started again by itself."""
        member = self.member(name)
        before = member.service_pid(service)
        # Its pid as the host itself knows it; the oldest is no child of another.
        found = member.exec(["pgrep", "-o", "-f", words]).stdout.strip()
        assert member.exec(["kill", "-9", found]).returncode == 0
        self.until(f"another {service}", lambda: member.service_pid(service) != before)
        self.until("the agent", lambda: self.ask(name, "status"))


@pytest.fixture(scope="module")
def pool(whole_lab: Lab) -> Iterator[Pool]:
    """Make the pool once: joining takes its time. h1 manages it."""
    whole_lab.restore()
    # No aggregator shall hear of the pool: it would let them join it again.
    whole_lab.member("a1").stop_service("aggregator")
    made = Pool(whole_lab)
    for name in HOSTS:
        made.until("the local pool", functools.partial(_is_well, made, name))
    for folder in ("alpha", "beta"):
        path = f"{FOLDER}/{folder}"
        words = ["install", "-d", "-o", "36", "-g", "36", "-m", "0770", FOLDER, path]
        assert made.member("h1").exec(words).returncode == 0
    try:
        for name in ("alpha", "beta"):
            made.ask("h1", "storage", "create", name, "--posix", f"{FOLDER}/{name}")
        made.ask("h1", "pool", "create", "main", "--master", "alpha")
        for name in ("h2", "h3"):
            way = ("--posix", f"{FOLDER}/alpha")
            made.ask(name, "pool", "connect", *way, "--no-wait")
        made.ask("h1", "storage", "attach", "beta", "main")
        made.ask("h1", "storage", "activate", "beta")
        yield made
    finally:
        _leave(made)


def test_pool_is_shared_and_a_restart_changes_nothing(pool: Pool) -> None:
    for name in HOSTS:
        pool.until(f"{name} in both", functools.partial(_is_in_both, pool, name))
        pool.until(
            f"{name} sees the manager",
            functools.partial(lambda who: pool.manager(who) == "h1", name),
        )
    pool.ask("h1", "disk", "create", "one", "beta", "64M")
    pool.ask("h1", "disk", "create", "two", "alpha", "64M", "--format", "raw")
    pool.ask("h1", "disk", "resize", "one", "128M")
    pool.ask("h1", "disk", "move", "one", "alpha")
    with pytest.raises(Refused, match="manages pool"):
        pool.ask("h2", "disk", "create", "three", "beta", "64M")
    before = pool.show("h1")["spm"]["lease_version"]
    pool.crash("h1", "agent", "skerry-node run")
    pool.until("the manager again", lambda: pool.show("h1")["mark"])
    assert pool.show("h1")["spm"]["lease_version"] == before
    pool.until("the disks again", lambda: {"one", "two"} <= pool.disk_names("h1"))
    assert pool.spm_events("h1") == ["spm_started"]
    one = pool.ask("h1", "disk", "show", "one")
    alpha = pool.domain("h1", "alpha")["storage_domain"]["storage_domain_id"]
    assert (one["size_bytes"], one["storage_domain_ids"]) == (128 << 20, [alpha])
    for name in ("one", "two"):
        pool.ask("h1", "disk", "delete", name, "--yes")
    pool.until(
        "no such disks", lambda: pool.disk_names("h1").isdisjoint({"one", "two"})
    )


def test_storage_process_that_dies_costs_the_leases_for_a_moment(pool: Pool) -> None:
    before = _local(pool, "h2")["spm"]["lease_version"]
    pool.crash("h2", "skerry-storage", "node.storage.process")
    took_s = pool.until(
        "the local pool managed again",
        lambda: _local(pool, "h2")["spm"].get("lease_version", 0) > before,
    )
    joined_s = pool.until("h2 in the pool again", lambda: _is_in_both(pool, "h2"))
    print(f"local pool after {took_s:.1f} s, shared one {joined_s:.1f} s later")
    pool.until("no problem", lambda: not pool.ask("h2", "status").get("problems"))


def test_one_host_dies_and_the_storage_of_another_hangs(pool: Pool) -> None:
    """h1 manages and loses its power, h3 its storage; h2 takes over."""
    pool.until("h1 the manager", lambda: pool.manager("h2") == "h1")
    pool.ask("h1", "disk", "create", "last", "beta", "64M")
    pool.until("alpha", lambda: pool.domain("h3", "alpha")["state"] == "active")
    pool.member("h1").kill()
    dead_at = time.monotonic()
    pool.member("h3").hang_storage()
    try:
        _check_undisturbed(pool, "h3")
    finally:
        pool.member("h3").resume_storage()

    def becomes() -> bool:
        pool.ask("h2", "pool", "become-manager", "main")
        return True

    pool.until("h2 the manager", becomes, FREE_S)
    print(f"another manager {time.monotonic() - dead_at:.1f} s after the power went")
    pool.until("the disk", lambda: "last" in pool.disk_names("h2"))
    pool.ask("h2", "disk", "create", "next", "beta", "64M")
    pool.until(
        "alpha active again", lambda: pool.domain("h3", "alpha")["state"] == "active"
    )
    pool.until("h3 sees it", lambda: pool.manager("h3") == "h2")
    pool.member("h1").boot()
    pool.until("h1 sees it", lambda: pool.manager("h1") == "h2")
    assert "mark" not in pool.show("h1")


def _check_undisturbed(pool: Pool, node: str) -> None:
    """Look how a node whose shared storage hangs does all else."""
    began, slowest_s = datetime.now(UTC), 0.0

    def is_told() -> bool:
        nonlocal slowest_s
        asked = time.monotonic()
        told = pool.domain(node, "alpha")
        slowest_s = max(slowest_s, time.monotonic() - asked)
        return bool(told["state"] == "unreachable" and told["reason"])

    took_s = pool.until("alpha is told to be unreachable", is_told, TOLD_S)
    asked = time.monotonic()
    pool.ask(node, "vm", "create", "calm", "--image", fleet.IMAGE, "--memory", "128M")
    vm_s = time.monotonic() - asked
    print(f"told after {took_s:.1f} s; asked: {slowest_s:.1f} s; VM: {vm_s:.1f} s")
    assert slowest_s < 5.0
    assert vm_s < 10.0

    def is_checked() -> bool:
        local = pool.domain(node, f"{node}-local")
        assert local["state"] == "active"
        return datetime.fromisoformat(local["checked_at"]) > began

    pool.until("a check of its own disk", is_checked)
    pool.ask(node, "vm", "delete", "calm", "--yes")


def _local(pool: Pool, name: str) -> Any:
    """Return the pool of a host's own disk."""
    pools = pool.ask(name, "pool", "list")["pools"]
    return next(each for each in pools if each["is_local"])


def _is_well(pool: Pool, name: str) -> bool:
    return bool(_local(pool, name).get("mark"))


def _is_in_both(pool: Pool, name: str) -> bool:
    told = [pool.domain(name, each) for each in ("alpha", "beta")]
    return all(each["state"] == "active" and each.get("host_id") for each in told)


def _leave(pool: Pool) -> None:
    """Let all hosts forget the pool, whatever a test did to them."""
    pool.lab.forget_storage()
    pool.lab.restore()
    pool.member("h1").exec(["rm", "-rf", FOLDER])
