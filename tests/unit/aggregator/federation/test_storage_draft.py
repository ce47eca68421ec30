"""What nodes say of pools, storage domains and disks becomes the next View."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.federation import apply
from aggregator.federation import view as views
from aggregator.federation.storage_draft import Dispute
from aggregator.federation.view import NodeState, View
from node.model.feed import Kind
from node.model.reason import Reason, chain
from node.model.storage import (
    ContentType,
    DiskState,
    DomainState,
    Liveness,
    PoolMark,
    PoolState,
)
from tests.fakes import fleet
from tests.unit.aggregator.federation.test_apply import SILENT, hear, view_of

POOL, DATA = fleet.pool_id(), fleet.domain_id(1)
FIRST, SECOND = PoolMark(1, 1), PoolMark(2, 1)
UNREACHABLE = Reason("storage_domain_unreachable", fleet.AT)


def silence(view: View, number: int) -> View:
    node_id = fleet.node_id(number)
    return apply.set_state(view, node_id, NodeState.UNREACHABLE, SILENT, fleet.AT)


def disks(view: View) -> list[str]:
    return [view.disks[disk_id].name for _, disk_id in view.disk_order]


def test_ovf_store_is_known_and_in_no_list() -> None:
    plain, written = fleet.disk(1), fleet.disk(2)
    written = replace(written, content=ContentType.OVF_STORE)
    pool = fleet.pool(1, mark=FIRST)
    view = hear(view_of(1), 1, pool, plain, written)
    assert disks(view) == [plain.name]
    assert view.disks[written.disk_id].is_ovf_store
    view = hear(view, 1, replace(written, content=ContentType.DATA))
    assert disks(view) == [plain.name, written.name]
    view = hear(view, 1, written)
    assert disks(view) == [plain.name]


# --- pools


def test_pool_is_told_by_its_manager() -> None:
    view = hear(view_of(1, 2), 1, fleet.pool(1, mark=FIRST))
    view = hear(view, 2, fleet.pool(2, holder=1))
    row = view.pools[POOL]
    assert (row.manager, row.state) == (fleet.node_id(1), PoolState.UP)
    assert row.domains == (fleet.pool_domain(1),)
    assert views.manager_of(view, POOL) == fleet.node_id(1)
    assert view.pool_order == (("pool1", POOL),)


def test_pool_keeps_what_each_node_says() -> None:
    late = fleet.member(1, liveness=Liveness.FAIL)
    own = fleet.member(2, priority=7)
    view = hear(view_of(2), 2, fleet.pool(2, holder=1, members=(late, own)))
    sight = view.pools[POOL].sights[fleet.node_id(2)]
    assert (sight.holder, sight.holder_liveness) == (fleet.node_id(1), Liveness.FAIL)
    assert (sight.host_id, sight.priority) == (2, 7)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["in-turn", "the-new-first"])
def test_pool_believes_the_highest_mark_whoever_came_first(
    order: tuple[int, int],
) -> None:
    said = {1: fleet.pool(1, mark=FIRST), 2: fleet.pool(2, mark=SECOND)}
    view = view_of(1, 2)
    for number in order:
        view = hear(view, number, said[number])
    assert views.manager_of(view, POOL) == fleet.node_id(2)
    assert not view.pools[POOL].is_disputed


def test_pool_of_a_silent_manager_stays_and_is_stale() -> None:
    view = hear(view_of(1, 2), 1, fleet.pool(1, mark=FIRST))
    view = silence(hear(view, 2, fleet.pool(2)), 1)
    row = view.pools[POOL]
    assert (row.manager, row.mark) == (fleet.node_id(1), FIRST)
    assert views.manager_of(view, POOL) is None
    assert row.state is PoolState.CONTENDING  # as the node says that is heard
    codes = [each.code for each in chain(views.staleness(view, row))]
    assert codes == ["storage_told_by_silent_node", "node_unreachable"]


def test_pool_has_no_manager_when_it_stepped_down() -> None:
    view = hear(view_of(1), 1, fleet.pool(1, mark=FIRST))
    view = hear(view, 1, fleet.pool(1))
    assert view.pools[POOL].manager is None


def test_pool_with_one_mark_from_two_nodes_is_an_alarm_and_no_choice() -> None:
    view = hear(view_of(1, 2), 1, fleet.pool(1, mark=FIRST))
    said = fleet.said(fleet.pool(2, mark=FIRST))
    view, troubles = apply.set_documents(view, fleet.node_id(2), said)
    assert view.pools[POOL].is_disputed
    assert views.manager_of(view, POOL) is None
    names = fleet.node_id(1), fleet.node_id(2)
    assert troubles == (Dispute(Kind.POOL, "pool1", *names),)
    _, troubles = apply.set_documents(view, fleet.node_id(2), said)
    assert troubles == ()  # told once


def test_pool_goes_with_the_last_node_that_sees_it() -> None:
    view = hear(view_of(1, 2), 1, fleet.pool(1, mark=FIRST))
    view = hear(view, 2, fleet.pool(2))
    view = apply.remove_node(view, fleet.node_id(1))
    assert set(view.pools[POOL].sights) == {fleet.node_id(2)}
    view = apply.remove_node(view, fleet.node_id(2))
    assert view == replace(View(), revision=view.revision)


# --- storage domains


def test_domain_is_as_well_as_the_node_that_sees_it_best() -> None:
    ill = fleet.storage_domain(
        1, state=DomainState.UNREACHABLE, reason=UNREACHABLE, mark=FIRST
    )
    view = hear(view_of(1, 2), 1, ill)
    assert view.storage_domains[DATA].state is DomainState.UNREACHABLE
    view = hear(view, 2, fleet.storage_domain(2))
    row = view.storage_domains[DATA]
    assert (row.state, row.reason) == (DomainState.ACTIVE, None)
    assert row.sights[fleet.node_id(1)].reason == UNREACHABLE
    assert (row.node_id, row.speaker) == (fleet.node_id(1), fleet.node_id(2))


def test_domain_in_maintenance_is_so_whatever_a_node_still_sees() -> None:
    resting = fleet.storage_domain(1, state=DomainState.MAINTENANCE, mark=FIRST)
    view = hear(hear(view_of(1, 2), 2, fleet.storage_domain(2)), 1, resting)
    assert view.storage_domains[DATA].state is DomainState.MAINTENANCE


def test_domain_is_told_by_the_mark_not_by_who_came_last() -> None:
    view = hear(view_of(1, 2), 1, fleet.storage_domain(1, name="new", mark=SECOND))
    view = hear(view, 2, fleet.storage_domain(2, name="old", mark=FIRST))
    assert view.storage_domains[DATA].name == "new"
    assert view.storage_domain_order == (("new", DATA),)


def test_domain_state_comes_from_those_that_are_heard() -> None:
    view = hear(view_of(1, 2), 1, fleet.storage_domain(1, mark=FIRST))
    ill = fleet.storage_domain(2, state=DomainState.UNREACHABLE, reason=UNREACHABLE)
    view = silence(hear(view, 2, ill), 1)
    row = view.storage_domains[DATA]
    assert (row.state, row.reason) == (DomainState.UNREACHABLE, UNREACHABLE)
    assert row.node_id == fleet.node_id(1)


def test_domain_latency_of_one_node_changes_only_its_sight() -> None:
    view = hear(view_of(1, 2), 1, fleet.storage_domain(1, mark=FIRST))
    view = hear(view, 2, fleet.storage_domain(2))
    view = hear(view, 2, fleet.storage_domain(2, latency_s=0.5))
    row = view.storage_domains[DATA]
    assert row.latency_s == 0.001
    assert row.sights[fleet.node_id(2)].latency_s == 0.5


# --- disks


def test_disk_is_shown_by_name_with_its_documents() -> None:
    view = hear(view_of(1), 1, fleet.disk(1, "b"), fleet.disk(2, "A"))
    assert disks(view) == ["A", "b"]
    row = view.disks[fleet.disk_id(1)]
    assert (row.pool_id, row.state) == (POOL, DiskState.OK)
    assert row.storage_domain_ids == (DATA,)
    assert b'"qcow2"' in row.document


def test_disks_share_what_they_have_in_common() -> None:
    view = hear(view_of(1), 1, fleet.disk(1), fleet.disk(2))
    first, second = view.disks[fleet.disk_id(1)], view.disks[fleet.disk_id(2)]
    assert first.mark is second.mark
    assert first.storage_domain_ids is second.storage_domain_ids


def test_disks_of_a_silent_manager_stay_until_the_next_one_speaks() -> None:
    view = hear(view_of(1, 2), 1, fleet.pool(1, mark=FIRST), fleet.disk(1))
    view = silence(view, 1)
    view = hear(view, 2, fleet.pool(2, mark=SECOND))
    row = view.disks[fleet.disk_id(1)]
    assert views.staleness(view, row) is not None
    view = hear(view, 2, fleet.disk(1, mark=SECOND))
    row = view.disks[fleet.disk_id(1)]
    assert (row.node_id, views.staleness(view, row)) == (fleet.node_id(2), None)


def test_disk_that_a_new_manager_does_not_say_is_gone() -> None:
    old = (fleet.pool(1, mark=FIRST), fleet.disk(1), fleet.disk(2))
    view = silence(hear(view_of(1, 2), 1, *old), 1)
    new = (fleet.pool(2, mark=SECOND), fleet.disk(1, mark=SECOND))
    view = hear(view, 2, *new)
    assert disks(view) == ["disk1"]
    said = [fleet.gone(fleet.disk(1))]
    view, _ = apply.set_documents(view, fleet.node_id(2), said)
    assert disks(view) == []  # what the silent one said of it is void


def test_disks_of_a_manager_that_left_stay_until_the_next_one_speaks() -> None:
    view = hear(view_of(1, 2), 1, fleet.pool(1, mark=FIRST), fleet.disk(1))
    said = [*fleet.said(fleet.pool(1, holder=2)), fleet.gone(fleet.disk(1))]
    view, _ = apply.set_documents(view, fleet.node_id(1), said)
    row = view.disks[fleet.disk_id(1)]
    reason = views.staleness(view, row)
    assert reason is not None
    assert reason.code == "disk_told_by_former_manager"
    new = (fleet.pool(2, mark=SECOND), fleet.disk(2, mark=SECOND))
    view = hear(view, 2, *new)
    assert disks(view) == ["disk2"]


@pytest.mark.parametrize("is_pool_first", [True, False])
def test_disks_of_a_local_pool_made_anew_are_shown(is_pool_first: bool) -> None:
    def local(mark: PoolMark, number: int) -> tuple[object, ...]:
        pool = replace(fleet.pool(1, mark=mark), is_local=True)
        found = pool, fleet.disk(number, mark=mark)
        return found if is_pool_first else found[::-1]

    view = hear(view_of(1), 1, *local(SECOND, 1))
    said = [fleet.gone(fleet.disk(1)), *fleet.said(*local(FIRST, 2))]
    view, _ = apply.set_documents(view, fleet.node_id(1), said)
    assert disks(view) == ["disk2"]


def test_disk_that_its_manager_deletes_is_gone() -> None:
    view = hear(view_of(1), 1, fleet.pool(1, mark=FIRST), fleet.disk(1))
    said = [fleet.gone(fleet.disk(1))]
    view, _ = apply.set_documents(view, fleet.node_id(1), said)
    assert disks(view) == []


def test_disk_with_one_mark_and_other_content_is_an_alarm() -> None:
    view = hear(view_of(1, 2), 1, fleet.disk(1))
    same = fleet.said(fleet.disk(1))
    view, troubles = apply.set_documents(view, fleet.node_id(2), same)
    assert troubles == ()
    other = fleet.said(fleet.disk(1, size_bytes=7))
    view, troubles = apply.set_documents(view, fleet.node_id(2), other)
    assert [type(each) for each in troubles] == [Dispute]
    assert view.disks[fleet.disk_id(1)].is_disputed


def test_disk_of_the_same_node_may_change_without_another_mark() -> None:
    view = hear(view_of(1), 1, fleet.disk(1))
    said = fleet.said(fleet.disk(1, size_bytes=7))
    view, troubles = apply.set_documents(view, fleet.node_id(1), said)
    assert troubles == ()
    assert view.disks[fleet.disk_id(1)].size_bytes == 7


# --- properties: whatever the order, the View is that of the end

_SAID: tuple[object, ...] = tuple(
    value
    for number in (1, 2, 3)
    for value in (
        fleet.pool(number),
        fleet.pool(number, mark=PoolMark(number, 1)),
        fleet.storage_domain(number),
        fleet.storage_domain(number, state=DomainState.UNREACHABLE),
        fleet.storage_domain(number, name="x", mark=PoolMark(number, 1)),
        fleet.disk(1, f"d{number}", mark=PoolMark(number, 1)),
        fleet.disk(2, mark=PoolMark(number, 2)),
    )
)
_PER_NODE = len(_SAID) // 3


@given(st.lists(st.integers(0, len(_SAID) - 1), max_size=12))
def test_documents_end_the_same_in_any_order_of_nodes(steps: Sequence[int]) -> None:
    view = view_of(1, 2, 3)
    last: dict[int, dict[tuple[str, str], object]] = {1: {}, 2: {}, 3: {}}
    # Whoever tells of a pool's disks has told of the pool before.
    firsts = [(number, fleet.pool(number)) for number in (1, 2, 3)]
    said_later = [(1 + step // _PER_NODE, _SAID[step]) for step in steps]
    for number, value in (*firsts, *said_later):
        view = hear(view, number, value)
        said = fleet.said(value)[0]
        last[number][said.kind, said.id] = value
    fresh = view_of(1, 2, 3)
    for number in (3, 1, 2):
        said_last = fleet.said(fleet.facts(number), *last[number].values())
        node_id = fleet.node_id(number)
        fresh, _ = apply.set_documents(fresh, node_id, said_last, is_complete=True)
    # A mark that was taken back has made older words void for good.
    if fresh.disk_leases == view.disk_leases:
        assert fresh == replace(view, revision=fresh.revision)
    for order, rows in (
        (view.pool_order, view.pools),
        (view.storage_domain_order, view.storage_domains),
        (view.disk_order, view.disks),
    ):
        named = [(views.fold(row.name), key) for key, row in rows.items()]
        assert list(order) == sorted(named)
    for number in (1, 2, 3):
        view = apply.remove_node(view, fleet.node_id(number))
    assert replace(view, revision=0, disk_leases=View().disk_leases) == View()
