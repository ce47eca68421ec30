"""The commands on storage do what they say: two nodes with all their storage.

Real folders, jobs and services behind the real API; sanlock and qemu-img are fakes.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from node.api import faces, jobs, storage
from node.http.serving import Server
from tests.unit.node.cli import shell
from tests.unit.node.storage.pools.nodes import Node, Nodes, wait_until
from tests.unit.node.storage.small_qemu import qemu_img
from tests.unit.terminal import Ended


@dataclass(frozen=True, slots=True)
class Prompt:
    """Where a person types what a node shall do."""

    socket: str

    def run(self, line: str) -> Ended:
        return shell.run(self.socket, *line.split())

    def ok(self, line: str) -> str:
        ended = self.run(line)
        assert ended.status == 0, (line, ended)
        return ended.text

    def json(self, line: str) -> Any:
        ended = self.run(f"--json {line}")
        assert ended.status == 0, (line, ended)
        return ended.json

    def names(self, line: str, field: str) -> set[str]:
        """Return the names of what a list shows."""
        found = self.json(line)[field]
        return {each.get("storage_domain", each)["name"] for each in found}


@contextlib.contextmanager
def _served(node: Node, socket: Path) -> Iterator[Prompt]:
    node.guard.programs["qemu-img"] = qemu_img(node.guard)
    blueprints = storage.blueprint(node.storage), jobs.blueprint(node.jobs)
    server = Server(socket, faces.create_local(blueprints), 4)
    server.start()
    try:
        yield Prompt(str(socket))
    finally:
        server.stop()


@dataclass(frozen=True, slots=True)
class Pair:
    """A node that manages the pool `lan`, and one that joined it."""

    one: Prompt
    two: Prompt
    shared: Path


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    nodes = Nodes(tmp_path)
    for name in ("alpha", "beta"):
        (nodes.shared / name).mkdir()
    at = {name: f"--posix {nodes.shared / name}" for name in ("alpha", "beta")}
    with contextlib.ExitStack() as stack:
        stack.callback(nodes.close)
        one, two = (
            stack.enter_context(_served(nodes.start(number), tmp_path / f"s{number}"))
            for number in (0, 1)
        )
        one.ok(f"storage create alpha {at['alpha']}")
        one.ok("pool create lan --master alpha")
        two.ok(f"pool connect {at['alpha']}")
        one.ok(f"storage create beta {at['beta']}")
        one.ok("storage attach beta lan")
        one.ok("storage activate beta")
        yield Pair(one, two, nodes.shared)


def test_second_node_finds_all_by_the_first_storage_domain(pair: Pair) -> None:
    both = {"alpha", "beta"}
    wait_until(lambda: pair.two.names("storage list", "storage_domains") == both)
    assert pair.two.json("pool show lan")["pool_id"] in pair.two.ok(
        f"storage look --posix {pair.shared / 'beta'}"
    )


def test_disks_are_made_changed_and_deleted(pair: Pair) -> None:
    one = pair.one
    one.ok("disk create root alpha 1GiB")
    one.ok("disk resize root 2G")
    one.ok("disk change root --name top")
    one.ok("disk copy top beta --name twin")
    one.ok("disk move twin alpha")
    one.ok("disk sparsify twin")
    wait_until(lambda: one.names("disk list", "disks") == {"top", "twin"})
    assert one.json("disk show twin")["size_bytes"] == 2 * 2**30
    refused = one.run("disk resize top 1G")
    assert (refused.status, "Disks only grow" in refused.err) == (1, True)
    one.ok("disk delete top --yes")
    wait_until(lambda: one.names("disk list", "disks") == {"twin"})


def test_damage_is_explained_and_repaired(pair: Pair) -> None:
    one = pair.one
    one.ok("disk create root alpha 1G")
    one.ok("disk create data alpha 1G")
    folders = {
        one.json(f"disk show {name}")["disk_id"]: name for name in ("root", "data")
    }
    by_name = {
        folders[path.parent.name]: path
        for path in pair.shared.glob("alpha/*/*/*/*.meta")
    }
    by_name["root"].with_suffix(".lease").unlink()
    by_name["data"].write_text("nonsense")
    shown = one.ok("storage check alpha")
    assert "with problems: 2" in shown
    assert "→ make the lease file of" in shown
    assert "a person decides" in shown
    assert "nothing was changed" in one.ok("storage repair alpha")
    assert not by_name["root"].with_suffix(".lease").exists()
    left = one.ok("storage repair alpha --yes")
    assert by_name["root"].with_suffix(".lease").exists()
    assert ("lease missing" in left, "meta damaged" in left) == (False, True)
    assert by_name["data"].read_text() == "nonsense"


def test_who_does_not_manage_the_pool_says_who_does(pair: Pair) -> None:
    for line in ("storage maintain alpha", "disk create root alpha 1G"):
        ended = pair.two.run(line)
        assert (ended.status, "Ask the node that manages" in ended.err) == (1, True)
    holder = pair.one.json("pool show lan")["spm"]["holder"]
    wait_until(lambda: pair.two.json("pool show lan")["spm"].get("holder") == holder)


def test_storage_domain_is_taken_out_of_use(pair: Pair) -> None:
    one = pair.one
    assert "maintenance first" in one.run("storage detach beta --yes").err
    one.ok("pool move-master lan beta")
    one.ok("storage maintain alpha")
    one.ok("storage detach alpha --yes")
    one.ok("storage remove alpha --format --yes")
    wait_until(lambda: one.names("storage list", "storage_domains") == {"beta"})
    assert "No storage domain lies there" in one.ok(
        f"storage look --posix {pair.shared / 'alpha'}"
    )
