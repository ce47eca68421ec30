"""Storage QoS and disk profiles: what is kept, what is refused, which a disk has."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aggregator import db
from aggregator.access.defaults import ensure_defaults
from aggregator.fleet.disk_profiles import DiskProfiles
from aggregator.policies.profiles import default_id
from node.errors import Error
from node.model.storage import DiskQos, DomainClass
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import say, view_of

ONE, TWO, ISO = fleet.domain_id(1), fleet.domain_id(2), fleet.domain_id(3)
DISK = fleet.disk_id(1)
SLOW = DiskQos(total_iops=100)
VIEW = say(
    view_of(1, 2),
    1,
    fleet.storage_domain(1, 1),
    fleet.storage_domain(1, 2),
    fleet.storage_domain(1, 3, domain_class=DomainClass.ISO),
    fleet.disk(1),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[db.Database]:
    made = db.Database(db.sqlite_url(tmp_path / "aggregator.db"))
    ensure_defaults(made)
    yield made
    made.close()


@pytest.fixture
def profiles(database: db.Database) -> DiskProfiles:
    return DiskProfiles(database)


@pytest.fixture
def center(database: db.Database) -> str:
    ids = (each.id for each in database.records("fleet").list())
    return next(each for each in ids if each.startswith("data_center/")).split("/")[1]


def refusal(ask: Callable[[], object]) -> str:
    with pytest.raises(Error) as caught:
        ask()
    return caught.value.code


def test_storage_domain_of_data_has_a_default_profile(profiles: DiskProfiles) -> None:
    found = [(e.name, e.storage_domain_id) for e in profiles.now().all(VIEW)]
    assert found == [("data1", ONE), ("data2", TWO)]


def test_what_was_decided_is_there_after_a_restart(
    profiles: DiskProfiles, database: db.Database, center: str
) -> None:
    qos = profiles.make_qos("slow", center, "for tests", SLOW)
    made = profiles.make(VIEW, "thrifty", ONE, "as well", qos.qos_id)
    profiles.choose(VIEW, DISK, made.profile_id, {ONE})
    now = DiskProfiles(database).now()
    assert now.qoss == {qos.qos_id: qos}
    assert now.of(VIEW, VIEW.disks[DISK]) == made
    assert now.limits(made) == SLOW


def test_default_profile_may_be_changed_and_stays(
    profiles: DiskProfiles, center: str
) -> None:
    qos = profiles.make_qos("slow", center, "", SLOW)
    profiles.change(VIEW, default_id(ONE), name="all", qos_id=qos.qos_id)
    found = profiles.now().of(VIEW, VIEW.disks[DISK])
    assert found is not None
    assert (found.name, profiles.now().limits(found)) == ("all", SLOW)
    profiles.change(VIEW, default_id(ONE), qos_id="")
    assert profiles.now().limits(profiles.now().of(VIEW, VIEW.disks[DISK])) is None
    ask = profiles.remove
    assert refusal(lambda: ask(VIEW, default_id(ONE))) == "disk_profile_is_default"


def test_what_is_in_use_is_not_removed(profiles: DiskProfiles, center: str) -> None:
    qos = profiles.make_qos("slow", center, "", SLOW)
    made = profiles.make(VIEW, "thrifty", ONE, qos_id=qos.qos_id)
    profiles.choose(VIEW, DISK, made.profile_id, {ONE})
    assert refusal(lambda: profiles.remove_qos(qos.qos_id)) == "storage_qos_in_use"
    remove = profiles.remove
    assert refusal(lambda: remove(VIEW, made.profile_id)) == "disk_profile_in_use"
    profiles.choose(VIEW, DISK, default_id(ONE), {ONE})
    remove(VIEW, made.profile_id)
    profiles.remove_qos(qos.qos_id)
    assert profiles.now().qoss == {}


def test_disk_that_moved_has_the_default_profile_there(profiles: DiskProfiles) -> None:
    made = profiles.make(VIEW, "thrifty", ONE)
    profiles.choose(VIEW, DISK, made.profile_id, {ONE})
    moved = say(VIEW, 1, fleet.disk(1, storage_domain_ids=(TWO,)))
    found = profiles.now().of(moved, moved.disks[DISK])
    assert found is not None
    assert found.profile_id == default_id(TWO)


def test_wrong_decisions_change_nothing(profiles: DiskProfiles, center: str) -> None:
    qos = profiles.make_qos("slow", center, "", SLOW)
    made = profiles.make(VIEW, "thrifty", ONE)
    before = profiles.now()
    both = DiskQos(total_iops=1, read_iops=1)
    wrong: dict[Callable[[], object], str] = {
        lambda: profiles.make_qos("Slow", center, "", SLOW): "name_taken",
        lambda: profiles.make_qos("", center, "", SLOW): "bad_name",
        lambda: profiles.make_qos("x" * 256, center, "", SLOW): "bad_name",
        lambda: profiles.make_qos("b", "nowhere", "", SLOW): "data_center_not_found",
        lambda: profiles.make_qos("b", center, "", both): "bad_disk_qos",
        lambda: profiles.change_qos(qos.qos_id, limits=both): "bad_disk_qos",
        lambda: profiles.change_qos("none"): "storage_qos_not_found",
        lambda: profiles.remove_qos("none"): "storage_qos_not_found",
        lambda: profiles.make(VIEW, "DATA1", ONE): "name_taken",
        lambda: profiles.make(VIEW, "b", ISO): "storage_domain_has_no_profiles",
        lambda: profiles.make(VIEW, "b", ONE, "", "none"): "storage_qos_not_found",
        lambda: profiles.change(VIEW, made.profile_id, name=" "): "bad_name",
        lambda: profiles.change(VIEW, "none"): "disk_profile_not_found",
        lambda: profiles.remove(VIEW, "none"): "disk_profile_not_found",
        lambda: profiles.choose(VIEW, DISK, made.profile_id, {TWO}): (
            "disk_profile_elsewhere"
        ),
        lambda: profiles.choose(VIEW, DISK, "none", {ONE}): "disk_profile_not_found",
    }
    assert [refusal(ask) for ask in wrong] == list(wrong.values())
    assert profiles.now() == before
