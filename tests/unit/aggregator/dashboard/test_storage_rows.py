"""Tests of aggregator.dashboard.storage_rows."""

from dataclasses import replace

import pytest

from aggregator.dashboard import storage_rows
from aggregator.dashboard.alarms import Alarm
from aggregator.dashboard.rows import Bar, Tally
from aggregator.federation import apply
from aggregator.federation import view as views
from aggregator.federation.view import NodeState, View
from node.model.messages import Severity
from node.model.reason import Reason
from node.model.storage import DomainState, Liveness, PoolMember, SpmState, SpmView
from node.units import GiB
from tests.fakes import fleet
from tests.fakes import fleet_storage as stored
from tests.fakes.services import AT, ELM, OAK
from tests.unit.aggregator.dashboard.examples import say


def _lost(name: str = "data2") -> Reason:
    cause = Reason("storage_domain_slow", AT, {"name": name, "latency_s": 9})
    fields = {"node": "elm", "name": name, "detail": "no answer"}
    return Reason("storage_domain_unreachable", AT, fields, cause)


def test_domain_line_tells_space_and_nodes(storage: View) -> None:
    row = storage.storage_domains[stored.DATA1]
    line = storage_rows.domain_line(storage, row, str)
    assert (line.what, line.is_master, line.pool_name, line.latency) == (
        "data, NFS",
        True,
        "shared",
        "2 ms",
    )
    assert (line.space, line.promised, line.nodes_well, line.nodes) == (
        Bar("Space", 40, "40 GiB of 100 GiB"),
        "20 GiB",
        2,
        2,
    )


@pytest.mark.parametrize(
    ("committed", "is_over"),
    [pytest.param(60, False, id="fits"), pytest.param(61, True, id="more-than-free")],
)
def test_domain_line_tells_over_commitment(
    committed: int, is_over: bool, storage: View
) -> None:
    told = stored.domain(OAK, stored.DATA1, committed_bytes=committed * GiB)
    view = say(storage, OAK, told)
    row = view.storage_domains[stored.DATA1]
    line = storage_rows.domain_line(view, row, str)
    assert line.is_over_committed is is_over


def test_domain_line_names_the_node_of_a_local_one(storage: View) -> None:
    row = storage.storage_domains[stored.ELM_LOCAL]
    assert storage_rows.domain_line(storage, row, str).node_name == "elm"


def test_domain_line_counts_a_node_that_lost_it(storage: View) -> None:
    told = stored.domain(
        ELM, stored.DATA2, state=DomainState.UNREACHABLE, reason=_lost()
    )
    view = say(storage, ELM, told)
    row = view.storage_domains[stored.DATA2]
    line = storage_rows.domain_line(view, row, str)
    assert (line.nodes_well, line.nodes) == (1, 2)
    assert line.why == "Node elm cannot use storage domain data2: no answer"


def test_sight_lines_tell_each_node_with_its_causes(storage: View) -> None:
    told = stored.domain(
        ELM,
        stored.DATA2,
        state=DomainState.UNREACHABLE,
        reason=_lost(),
        latency_s=None,
    )
    view = say(storage, ELM, told)
    found = storage_rows.sight_lines(view, view.storage_domains[stored.DATA2], str)
    assert [(each.node_name, each.sign.text, each.latency) for each in found] == [
        ("elm", "Unreachable", ""),
        ("oak", "Active", "2 ms"),
    ]
    assert [len(each.whys) for each in found] == [2, 0]


def test_sight_lines_tell_that_a_node_is_silent(storage: View) -> None:
    row = storage.storage_domains[stored.DATA2]
    silent = replace(row.sights[ELM], is_silent=True)
    row = replace(row, sights=row.sights.set(ELM, silent))
    elm = storage_rows.sight_lines(storage, row, str)[0]
    assert (elm.sign.text, elm.latency) == ("Unreachable", "")


def test_domain_reasons_let_one_of_many_nodes_speak(storage: View) -> None:
    view = storage
    for node_id, name in ((OAK, "oak"), (ELM, "elm")):
        fields = {"node": name, "name": "data2", "detail": "no answer"}
        why = Reason("storage_domain_unreachable", AT, fields)
        told = stored.domain(
            node_id, stored.DATA2, state=DomainState.UNREACHABLE, reason=why
        )
        view = say(view, node_id, told)
    found = storage_rows.domain_reasons(view, view.storage_domains[stored.DATA2])
    assert [each.code for each in found] == ["storage_domain_unreachable"]


def test_domain_reasons_tell_what_the_check_found(storage: View) -> None:
    low = Reason("storage_domain_low", AT, {"name": "data1", "free_mib": 1})
    view = say(storage, OAK, stored.domain(OAK, stored.DATA1, problems=(low, low)))
    row = view.storage_domains[stored.DATA1]
    assert storage_rows.domain_reasons(view, row) == (low,)


def test_domain_reasons_say_who_disputes(storage: View) -> None:
    told = stored.domain(ELM, stored.DATA1, mark=stored.MARK)
    view, _ = apply.set_documents(storage, ELM, fleet.said(told))
    row = view.storage_domains[stored.DATA1]
    (why,) = storage_rows.domain_reasons(view, row)
    assert (why.code, why.fields["node"], why.fields["other"]) == (
        "documents_conflict",
        "elm",
        "oak",
    )


def test_reasons_tell_that_the_teller_is_silent(storage: View) -> None:
    oak = replace(storage.nodes[OAK], state=NodeState.UNREACHABLE)
    view = replace(storage, nodes=storage.nodes.set(OAK, oak))
    row = view.pools[stored.SHARED]
    assert [each.code for each in storage_rows.pool_reasons(view, row)] == [
        "storage_told_by_silent_node"
    ]


def test_pool_line_names_manager_and_master(storage: View) -> None:
    line = storage_rows.pool_line(storage, storage.pools[stored.SHARED], str)
    assert (line.sign.text, line.manager_name, line.master_name, line.nodes) == (
        "Up",
        "oak",
        "data1",
        2,
    )


def test_pool_line_warns_when_the_manager_is_silent(storage: View) -> None:
    oak = replace(storage.nodes[OAK], state=NodeState.UNREACHABLE)
    view = replace(storage, nodes=storage.nodes.set(OAK, oak))
    assert views.manager_of(view, stored.SHARED) is None
    line = storage_rows.pool_line(view, view.pools[stored.SHARED], str)
    assert line.sign.text == "No manager"


def test_member_lines_tell_role_liveness_and_priority(storage: View) -> None:
    members = (
        PoolMember(OAK, 1, Liveness.LIVE),
        PoolMember(ELM, 2, Liveness.DEAD, priority=3),
    )
    view = say(storage, OAK, stored.pool(OAK, members=members))
    view = say(view, ELM, stored.pool(ELM, members=members))
    found = storage_rows.member_lines(view, view.pools[stored.SHARED], str)
    assert [
        (
            each.node_name,
            each.role.text,
            each.liveness and each.liveness.text,
            each.priority_text,
            each.may_be_elected,
        )
        for each in found
    ] == [
        ("elm", "Member", "Dead", "3", True),
        ("oak", "Manager", "Alive", "Normal", False),
    ]


def test_member_lines_do_not_offer_a_node_that_is_leaving(storage: View) -> None:
    spm = SpmView(SpmState.LEAVING, OAK, 3)
    view = say(storage, ELM, stored.pool(ELM, spm=spm))
    elm = storage_rows.member_lines(view, view.pools[stored.SHARED], str)[0]
    assert elm.may_be_elected is False


def test_member_lines_do_not_offer_a_silent_node(storage: View) -> None:
    row = storage.pools[stored.SHARED]
    silent = replace(row.sights[ELM], is_silent=True)
    row = replace(row, sights=row.sights.set(ELM, silent))
    elm = storage_rows.member_lines(storage, row, str)[0]
    assert (elm.may_be_elected, elm.sign.text) == (False, "Unreachable")


def test_shared_space_counts_shared_data_once(storage: View) -> None:
    assert storage_rows.shared_space(storage) == Bar(
        "Shared storage", 40, "80 GiB of 200 GiB"
    )


def test_shared_space_of_nothing_is_none() -> None:
    assert storage_rows.shared_space(View()) is None


def test_domain_tally_counts_states_and_alarms(storage: View) -> None:
    alarm = Alarm("data1", _lost(), Severity.ERROR, storage_domain_id=stored.DATA1)
    rows = storage.storage_domains.values()
    assert storage_rows.domain_tally(rows, (alarm, alarm)) == Tally(6, 4, 1, 0)


@pytest.mark.parametrize(
    ("latency_s", "text"),
    [
        pytest.param(None, "", id="no-answer"),
        pytest.param(0.0001, "1 ms", id="at-once"),
        pytest.param(0.0204, "20 ms", id="quick"),
        pytest.param(12.34, "12.3 s", id="slow"),
    ],
)
def test_latency_has_a_sensible_unit(latency_s: float | None, text: str) -> None:
    assert storage_rows.latency(latency_s) == text
