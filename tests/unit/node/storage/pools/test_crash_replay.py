"""Stop the agent before each call that a verb makes; started again, it ends the same.

Calls are those to the storage process. Once the agent is dead nothing of it reaches
the storage any more, so that what tidies up after an error cannot help.
"""

import contextlib
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from node.model.ids import JobId, PoolId, StorageDomainId
from node.model.job import ENDED, Job
from node.model.storage import DomainState
from node.model.storage_requests import (
    ActOnStorageDomain,
    AttachStorageDomain,
    ChangeStorageDomain,
    CreatePool,
    CreateStorageDomain,
    ImportStorageDomain,
    MoveMaster,
    RemoveStorageDomain,
)
from tests.unit.node.storage import strides
from tests.unit.node.storage.pools.nodes import Node, Nodes, wait_until

ALPHA = StorageDomainId("11111111-1111-4222-8333-00000000000a")
BETA = StorageDomainId("11111111-1111-4222-8333-00000000000b")
POOL = PoolId("22222222-1111-4222-8333-00000000000a")
ENDLESS = 10**6

Ask = Callable[[Nodes, Node, JobId], Job]


def ask_create(nodes: Nodes, node: Node, job_id: JobId) -> Job:
    request = CreateStorageDomain(BETA, "beta", nodes.connection("beta"), job_id=job_id)
    return node.storage.storage_domain_create(request)


def ask_pool(_nodes: Nodes, node: Node, job_id: JobId) -> Job:
    return node.storage.pool_create(CreatePool(POOL, "main", ALPHA, job_id=job_id))


def ask_attach(_nodes: Nodes, node: Node, job_id: JobId) -> Job:
    generation = node.pool(POOL).generation
    request = AttachStorageDomain(POOL, generation=generation, job_id=job_id)
    return node.storage.storage_domain_attach(BETA, request)


def ask_import(nodes: Nodes, node: Node, job_id: JobId) -> Job:
    request = ImportStorageDomain(nodes.connection("beta"), pool_id=POOL, job_id=job_id)
    return node.storage.storage_domain_import(request)


def _act(node: Node, job_id: JobId) -> ActOnStorageDomain:
    return ActOnStorageDomain(node.pool(POOL).generation, job_id=job_id)


def ask_activate(_nodes: Nodes, node: Node, job_id: JobId) -> Job:
    return node.storage.storage_domain_activate(BETA, _act(node, job_id))


def ask_maintain(_nodes: Nodes, node: Node, job_id: JobId) -> Job:
    return node.storage.storage_domain_maintain(BETA, _act(node, job_id))


def ask_detach(_nodes: Nodes, node: Node, job_id: JobId) -> Job:
    return node.storage.storage_domain_detach(BETA, _act(node, job_id))


def ask_change(_nodes: Nodes, node: Node, job_id: JobId) -> Job:
    generation = node.pool(POOL).generation
    request = ChangeStorageDomain("gold", "fast", True, None, generation, job_id)
    return node.storage.storage_domain_change(BETA, request)


def ask_move(_nodes: Nodes, node: Node, job_id: JobId) -> Job:
    generation = node.pool(POOL).generation
    request = MoveMaster(BETA, generation, job_id=job_id)
    return node.storage.pool_move_master(POOL, request)


def ask_remove(_nodes: Nodes, node: Node, job_id: JobId) -> Job:
    request = RemoveStorageDomain(is_formatted=True, job_id=job_id)
    return node.storage.storage_domain_remove(BETA, request)


def make_alpha(nodes: Nodes, node: Node) -> None:
    request = CreateStorageDomain(ALPHA, "alpha", nodes.connection("alpha"))
    node.done(node.storage.storage_domain_create(request))


def _do(nodes: Nodes, node: Node, *asks: Ask) -> None:
    make_alpha(nodes, node)
    for ask in asks:
        node.done(ask(nodes, node, JobId(str(uuid.uuid4()))))


BEFORE: dict[Ask, tuple[Ask, ...]] = {
    ask_create: (),
    ask_pool: (),
    ask_attach: (ask_create, ask_pool),
    ask_import: (ask_create, ask_pool),
    ask_activate: (ask_create, ask_pool, ask_attach),
    ask_maintain: (ask_create, ask_pool, ask_attach, ask_activate),
    ask_detach: (ask_create, ask_pool, ask_attach),
    ask_change: (ask_create, ask_pool, ask_attach, ask_activate),
    ask_move: (ask_create, ask_pool, ask_attach, ask_activate),
    ask_remove: (ask_create,),
}


def has(node: Node, state: DomainState) -> bool:
    known = node.storage.storage_domain_list().storage_domains
    return any(each.state is state for each in known)


@dataclass(frozen=True, slots=True)
class End:
    """What counts of the end: all that other nodes would find."""

    states: Mapping[str, DomainState]
    pools: tuple[object, ...]
    held: tuple[str, ...]


def end_of(node: Node, held: tuple[str, ...] | None) -> End:
    """Return how it ended; with these leases held, if that comes true."""
    wait_until(lambda: all(each.is_settled for each in node.storage.roster.seats()))
    wait_until(lambda: not has(node, DomainState.ACTIVATING))
    # A pool's seat gives back by itself what the agent before it held.
    with contextlib.suppress(AssertionError):
        wait_until(lambda: held is None or _held(node) == held)
    known = node.storage.storage_domain_list().storage_domains
    states = {each.storage_domain.name: each.state for each in known}
    pools = tuple(
        (each.name, each.master, [(e.name, e.state) for e in each.domains])
        for each in node.storage.pool_list().pools
    )
    return End(states, pools, _held(node))


def _held(node: Node) -> tuple[str, ...]:
    return tuple(sorted(each.lockspace for each in node.guard.leases().held))


def play(
    folder: Path, ask: Ask, calls: int, held: tuple[str, ...] | None = None
) -> tuple[End, int]:
    """Let the agent die after so many calls of a verb, and another one go on.

    Returns the end, and how many calls were made by then; `held` are the leases that
    shall be held at the end.
    """
    nodes = Nodes(folder)
    nodes.folder.mkdir()
    try:
        node = nodes.start()
        _do(nodes, node, *BEFORE[ask])
        node.guard.calls_left = calls
        job_id = JobId(str(uuid.uuid4()))
        ask(nodes, node, job_id)
        has_died = node.has_died(job_id)
        made = calls - node.guard.calls_left
        is_over = False
        if has_died:
            nodes.stop(node)
            is_over = node.jobs.get(job_id).state in ENDED
            node = nodes.start()
        node.done(node.jobs.get(job_id))
        end = end_of(node, None if has_died and is_over else held)
    finally:
        nodes.close()
    shutil.rmtree(nodes.folder)
    # Over it, nobody goes on with it: what it gave back last may be held.
    return (replace(end, held=()) if has_died and is_over else end), made


@strides.each()
@pytest.mark.parametrize("ask", BEFORE, ids=lambda ask: ask.__name__)
def test_verb_ends_the_same_wherever_the_agent_dies(
    tmp_path: Path, ask: Ask, stride: int
) -> None:
    last, calls = play(tmp_path / "whole", ask, ENDLESS)
    assert calls > 3
    wanted = (last, replace(last, held=()))
    points = strides.points(calls, stride, list(BEFORE).index(ask))
    ends = {n: play(tmp_path / str(n), ask, n, last.held)[0] for n in points}
    assert {n: end for n, end in ends.items() if end not in wanted} == {}
