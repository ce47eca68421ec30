"""Tests of aggregator.dashboard.storage_alarms."""

from dataclasses import replace

from aggregator.dashboard import storage_alarms
from aggregator.federation.view import NodeState, View
from node.model.reason import Reason
from node.model.storage import DiskState, DomainState, PoolState
from tests.fakes import fleet_storage as stored
from tests.fakes.services import AT, ELM, OAK
from tests.unit.aggregator.dashboard.examples import say

LOW = Reason("storage_domain_low", AT, {"name": "data1", "free_mib": 1})
LOST = Reason("storage_domain_unreachable", AT, {"name": "data2", "node": "elm"})


def test_alarms_are_none_when_all_is_well(storage: View) -> None:
    assert storage_alarms.alarms(storage) == ()


def test_alarms_name_what_one_node_lost(storage: View) -> None:
    told = stored.domain(ELM, stored.DATA2, state=DomainState.UNREACHABLE, reason=LOST)
    (alarm,) = storage_alarms.alarms(say(storage, ELM, told))
    assert (alarm.storage_domain_id, alarm.reason) == (stored.DATA2, LOST)


def test_alarms_name_the_problems_that_checks_found(storage: View) -> None:
    view = say(storage, OAK, stored.domain(OAK, stored.DATA1, problems=(LOW,)))
    assert [each.reason for each in storage_alarms.alarms(view)] == [LOW]


def test_alarms_leave_out_what_is_in_maintenance(storage: View) -> None:
    view = say(storage, OAK, stored.domain(OAK, stored.ISO1, problems=(LOW,)))
    assert storage_alarms.alarms(view) == ()


def test_alarms_leave_a_silent_teller_to_its_node(storage: View) -> None:
    oak = replace(storage.nodes[OAK], state=NodeState.UNREACHABLE)
    view = replace(storage, nodes=storage.nodes.set(OAK, oak))
    assert storage_alarms.alarms(view) == ()


def test_alarms_tell_that_a_pool_has_no_candidate(storage: View) -> None:
    why = Reason("spm_no_candidate", AT, {"count": 2})
    told = stored.pool(OAK, state=PoolState.CONTENDING, reason=why)
    (alarm,) = storage_alarms.alarms(say(storage, OAK, told))
    assert (alarm.pool_id, alarm.name) == (stored.SHARED, "shared")


def test_alarms_tell_of_damaged_disks_only(storage: View) -> None:
    view = say(
        storage,
        OAK,
        stored.disk(stored.LOOSE, "loose", state=DiskState.ILLEGAL),
        stored.disk(stored.SYSTEM, "system", state=DiskState.UNREACHABLE),
    )
    (alarm,) = storage_alarms.alarms(view)
    assert (alarm.disk_id, alarm.reason.code) == (stored.LOOSE, "disk_chain_illegal")
