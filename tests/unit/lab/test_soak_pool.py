"""Test what the soak of storage plans, and what it calls wrong."""

import dataclasses
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.model.ids import DiskId
from tests.lab import soak_pool_checks, soak_pool_plan, witness
from tests.lab.soak_pool_checks import SECTOR, SLOT_SECTORS, Ack, Start, Volume
from tests.lab.soak_pool_plan import WORK_S, Kind, Run, Target, Work

FIXED = DiskId("11111111-0000-4000-8000-000000000001")
NONE = "00000000-0000-0000-0000-000000000000"
VM = "vm-1"


def _plan(seed: int, *, is_brief: bool = False) -> Run:
    return soak_pool_plan.plan(seed, FIXED, 3, is_brief=is_brief)


@given(some.integers(), some.booleans())
def test_plan_is_the_same_for_a_seed(seed: int, is_brief: bool) -> None:
    assert _plan(seed, is_brief=is_brief) == _plan(seed, is_brief=is_brief)


@given(some.integers())
def test_plan_begins_all_in_time_and_deletes_no_fixed_disk(seed: int) -> None:
    run = _plan(seed)
    assert run.fault.at_s <= WORK_S
    assert all(strand.at_s <= WORK_S for strand in run.strands)
    deleted = {
        task.disk_id
        for strand in run.strands
        for task in strand.tasks
        if task.work is Work.DELETE
    }
    assert deleted <= set(soak_pool_plan.new_disks(run))
    assert FIXED not in deleted


def test_plan_makes_a_vm_of_the_template_that_it_makes() -> None:
    made = [
        (each.tasks[0].made_id, each.tasks[1].of_id)
        for run in map(_plan, range(50))
        for each in run.strands
        if each.tasks[0].work is Work.TEMPLATE
    ]
    assert made
    assert all(template_id == of_id for template_id, of_id in made)


@given(some.integers())
def test_brief_plan_breaks_nothing_for_long(seed: int) -> None:
    fault = _plan(seed, is_brief=True).fault
    assert fault.kind is not Kind.POWER
    assert fault.duration_s <= 5.0


def test_plans_use_all_work_all_faults_and_all_targets() -> None:
    runs = [_plan(seed) for seed in range(300)]
    tasks = {task.work for run in runs for each in run.strands for task in each.tasks}
    assert tasks == set(Work)
    assert {run.fault.kind for run in runs} == set(Kind)
    assert {run.fault.target for run in runs} == set(Target)
    assert {run.host for run in runs} == {None, 0, 1, 2}


@pytest.mark.parametrize("is_brief", [False, True], ids=["long", "brief"])
def test_neighbours_share_out_all_faults(is_brief: bool) -> None:
    count = 25 if is_brief else 35
    for first in (0, 7 * count):
        plans = [_plan(first + n, is_brief=is_brief) for n in range(count)]
        faults = [(run.fault.kind, run.fault.service) for run in plans]
        assert {kind for kind, _ in faults} == set(Kind) - (
            {Kind.POWER} if is_brief else set()
        )
        assert faults.count((Kind.FREEZE, "aggregator")) == 1
        assert faults.count((Kind.READ_ONLY, "")) == 1


def test_acks_are_the_last_of_each_slot() -> None:
    text = "boot\nACK 3 0 1\r\nlogin: ACK 3 0 2\nACK 5 1 0\nACK 5 1"
    assert soak_pool_checks.acks(text) == {0: Ack(3, 0, 2), 1: Ack(5, 1, 0)}


def test_acks_count_beyond_a_slot() -> None:
    late = Ack(3, 0, SLOT_SECTORS + 1)
    again = [(3, 0, SLOT_SECTORS), (3, 0, SLOT_SECTORS + 1)]
    others = [(3, 0, number) for number in range(2, SLOT_SECTORS)]
    assert soak_pool_checks.lost_writes(_disk(*again, *others), [late]) == []
    assert soak_pool_checks.lost_writes(_disk(*others), [late])
    assert soak_pool_checks.lost_writes(_disk((3, 0, 0), *others), [late])
    assert soak_pool_checks.lost_writes(_disk(*again, *others[1:]), [late])


def _disk(*stamps: tuple[int, int, int]) -> bytes:
    data = bytearray(2 * SLOT_SECTORS * SECTOR)
    for version, slot, number in stamps:
        begin = (slot * SLOT_SECTORS + number % SLOT_SECTORS) * SECTOR
        data[begin : begin + SECTOR] = soak_pool_checks.stamp(version, slot, number)
    return bytes(data)


WHOLE = _disk((3, 0, 0), (3, 0, 1), (5, 1, 0))
ACKED = [Ack(3, 0, 1), Ack(5, 1, 0)]


@pytest.mark.parametrize(
    ("data", "count"),
    [
        pytest.param(WHOLE, 0, id="all-there"),
        pytest.param(
            _disk((3, 0, 0), (3, 0, 1 + SLOT_SECTORS), (5, 1, 0)), 0, id="newer"
        ),
        pytest.param(
            _disk((3, 0, 0), (3, 0, 2 + SLOT_SECTORS), (5, 1, 0)), 1, id="wrong-place"
        ),
        pytest.param(_disk((3, 0, 0), (5, 1, 0)), 1, id="one-lost"),
        pytest.param(_disk((3, 0, 0), (3, 0, 1), (4, 1, 0)), 1, id="another-writer"),
        pytest.param(WHOLE[: SLOT_SECTORS * SECTOR], 1, id="cut-off"),
        pytest.param(b"x" + WHOLE[1:], 1, id="damaged"),
    ],
)
def test_lost_writes_are_acknowledged_ones_that_are_not_there(
    data: bytes, count: int
) -> None:
    assert len(soak_pool_checks.lost_writes(data, ACKED)) == count


def test_script_writes_what_is_expected_and_acknowledges_it() -> None:
    text = soak_pool_checks.script(7, 2)
    said = subprocess.run(
        ["sh", "-c", "printf 'STAMP %08d %04d %06d\\n' 7 2 0"],
        capture_output=True,
        check=True,
        timeout=10.0,
    )
    assert said.stdout == soak_pool_checks.stamp(7, 2, 0).rstrip(b"\0")
    assert "%08d %04d %06d\\n' 7 2 $n" in text
    assert f"seek=$(({2 * SLOT_SECTORS} + n % {SLOT_SECTORS}))" in text
    assert text.startswith("mkdir /run/writes || exit;")  # the guest's first one
    assert text.index("fsync") < text.rindex("|| exit") < text.index("ACK")


def change(
    host: str, begin_ns: int, path: str = "/a", verb: str = "write"
) -> witness.Change:
    at = (begin_ns, begin_ns + 2)
    return witness.Change(host, verb, path, "", 42, 0, 512, 7, *at, result=512)


STARTS = [Start("h1", 10), Start("h2", 50)]
ONE_AFTER_THE_OTHER = [change("h1", 11), change("h1", 20), change("h2", 60)]


@pytest.mark.parametrize(
    ("more", "count"),
    [
        pytest.param([], 0, id="one-after-the-other"),
        pytest.param([change("h2", 8)], 0, id="made-it-before"),
        pytest.param([change("h3", 40)], 0, id="merged-it-in-between"),
        pytest.param([change("h3", 15)], 1, id="beside-the-first"),
        pytest.param([change("h1", 65), change("h2", 70)], 1, id="late-write"),
        pytest.param([change("h3", 15, "/a.meta")], 0, id="metadata"),
        pytest.param([change("h3", 15, "/b")], 0, id="new-volume"),
        pytest.param(
            [
                *(change("h3", 15, "/b"), change("h1", 17, "/b")),
                *(change("h3", 18, "/b"), change("h1", 19, "/b")),
            ],
            1,
            id="beside-the-first-on-a-new-volume",
        ),
        pytest.param(
            [change("h3", 5, "/b"), change("h3", 15, "/b")], 1, id="another-volume"
        ),
        pytest.param([change("h3", 15, verb="rename")], 0, id="no-data"),
        pytest.param(
            [dataclasses.replace(change("h3", 2), end_ns=None, result=None)],
            0,
            id="died-before",
        ),
        pytest.param(
            [dataclasses.replace(change("h3", 15), end_ns=None, result=None)],
            1,
            id="died-beside-the-first",
        ),
        pytest.param(
            [dataclasses.replace(change("h3", 15), result=-5)], 0, id="refused"
        ),
    ],
)
def test_double_writers_are_those_between_the_writes_of_a_start(
    more: list[witness.Change], count: int
) -> None:
    done = sorted([*ONE_AFTER_THE_OTHER, *more], key=lambda each: each.begin_ns)
    assert len(soak_pool_checks.double_writers(done, STARTS)) == count


def test_double_writers_are_none_when_the_vm_never_started() -> None:
    assert soak_pool_checks.double_writers(ONE_AFTER_THE_OTHER, []) == []


@pytest.mark.parametrize(
    ("terms", "is_well"),
    [
        pytest.param(["h1", "h2"], True, id="in-turn"),
        pytest.param(["h1", "h3", "h2", "h1"], True, id="some-changed-nothing"),
        pytest.param(["h2", "h1"], False, id="wrong-order"),
        pytest.param(["h1"], False, id="no-manager"),
    ],
)
def test_managers_change_things_in_the_order_of_their_terms(
    terms: list[str], is_well: bool
) -> None:
    found = list(soak_pool_checks.managers_out_of_turn(ONE_AFTER_THE_OTHER, terms))
    assert (found == []) is is_well


def test_manager_that_comes_back_late_is_out_of_turn() -> None:
    done = [*ONE_AFTER_THE_OTHER, change("h1", 70)]
    assert list(soak_pool_checks.managers_out_of_turn(done, ["h1", "h2"]))
    assert not list(soak_pool_checks.managers_out_of_turn(done, ["h1", "h2", "h1"]))


BASE = Volume("v1", NONE, "INTERNAL", "LEGAL", "")
SHARED = dataclasses.replace(BASE, role="SHARED")
LEAF = Volume("v2", "v1", "LEAF", "LEGAL", "v1")


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        pytest.param([BASE, LEAF], "", id="legal"),
        pytest.param([BASE], "0 leaves", id="no-leaf"),
        pytest.param([SHARED], "", id="template"),
        pytest.param([SHARED, LEAF], "", id="thin-clone"),
        pytest.param([LEAF, LEAF], "2 leaves", id="two-leaves"),
        pytest.param([LEAF], "volume v1 is not there", id="no-base"),
        pytest.param(
            [dataclasses.replace(BASE, legality="ILLEGAL"), LEAF],
            "v1 is ILLEGAL",
            id="illegal",
        ),
        pytest.param(
            [BASE, dataclasses.replace(LEAF, backing="")], "backing ''", id="backing"
        ),
        pytest.param(
            [BASE, LEAF, dataclasses.replace(BASE, volume_id="v3")],
            "v3 is in no chain",
            id="left-over",
        ),
    ],
)
def test_chain_problems_tell_what_is_not_legal(
    volumes: list[Volume], words: str
) -> None:
    found = list(soak_pool_checks.chain_problems(volumes))
    assert len(found) == bool(words)
    assert words in "".join(found)


def test_left_over_are_files_without_disks_and_disks_without_files() -> None:
    assert soak_pool_checks.left_over(["a"], ["a"]) == []
    assert len(soak_pool_checks.left_over(["a", "_remove_me_b"], ["a", "c"])) == 2


MANAGER = "p 7 \ns LS:1:/ids:0\nr LS:SDM:/leases:1048576:3 p 7\n"


@pytest.mark.parametrize(
    ("h2", "runner", "count"),
    [
        pytest.param("", "", 0, id="manager-alone"),
        pytest.param(f"r LS:{VM}:/xleases:0:4 p 9\n", "h2", 0, id="runs"),
        pytest.param(f"r LS:{VM}:/xleases:0:4 p 9\n", "", 1, id="vm-is-down"),
        pytest.param(f"r LS:{VM}:/xleases:0:4 p 9\n", "h1", 1, id="runs-elsewhere"),
        pytest.param("r LS:disk:/images:0:4 p 9\n", "", 1, id="volume"),
        pytest.param("r LS2:SDM:/leases:0:4 p 9\n", "", 1, id="two-managers"),
    ],
)
def test_locks_left_are_leases_that_nothing_needs(
    h2: str, runner: str, count: int
) -> None:
    status = {"h1": MANAGER, "h2": h2}
    assert len(soak_pool_checks.locks_left(status, VM, runner)) == count


def test_spread_tells_the_middle_and_the_most() -> None:
    assert soak_pool_checks.spread([1.0, 9.0, 2.0]) == "3, median 2.0 s, max 9.0 s"
    assert soak_pool_checks.spread([]) == "none"
