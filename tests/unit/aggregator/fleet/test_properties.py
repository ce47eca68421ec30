"""Declarations of custom properties: what is kept, what is refused."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator import db
from aggregator.fleet import documents
from aggregator.fleet.properties import (
    Properties,
    PropertyInUse,
    PropertyNotFound,
    PropertyPredefined,
)
from aggregator.policies.properties import PREDEFINED, BadPattern, Declaration, Level
from node.model.properties import CustomProperty
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import say, view_of

VIEW = view_of(1)
PINCPU = Declaration(Level.VM, "pincpu", "[0-9]+", "Which processors it may use.")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[db.Database]:
    made = db.Database(db.sqlite_url(tmp_path / "aggregator.db"))
    yield made
    made.close()


@pytest.fixture
def declared(database: db.Database) -> Properties:
    made = Properties(database)
    made.declare(PINCPU.level, PINCPU.name, PINCPU.pattern, PINCPU.help)
    return made


def test_fresh_fleet_has_what_ovirt_predefines(database: db.Database) -> None:
    found = Properties(database).now()
    assert set(found.values()) == set(PREDEFINED)


def test_what_was_declared_is_there_after_a_restart(
    declared: Properties, database: db.Database
) -> None:
    assert Properties(database).now()[Level.VM, "pincpu"] == PINCPU


def test_what_was_declared_is_in_the_sealed_copy(
    declared: Properties, database: db.Database
) -> None:
    assert "custom_property/vm/pincpu" in documents.records(database)["fleet"]


def test_declare_again_changes_it(declared: Properties) -> None:
    declared.declare(Level.VM, "pincpu", ".*")
    assert declared.now()[Level.VM, "pincpu"].pattern == ".*"


def test_declare_tells_levels_apart(declared: Properties) -> None:
    declared.declare(Level.NIC, "pincpu", ".*")
    assert declared.now()[Level.VM, "pincpu"] == PINCPU


def test_declare_refuses_a_broken_pattern(declared: Properties) -> None:
    with pytest.raises(BadPattern):
        declared.declare(Level.VM, "x", "(")


def test_predefined_ones_stay_as_they_are(declared: Properties) -> None:
    with pytest.raises(PropertyPredefined):
        declared.declare(Level.VM, "sap_agent", ".*")
    with pytest.raises(PropertyPredefined):
        declared.remove(VIEW, Level.VM, "sap_agent")


def test_remove_forgets(declared: Properties) -> None:
    declared.remove(VIEW, Level.VM, "pincpu")
    assert (Level.VM, "pincpu") not in declared.now()


def test_remove_says_that_there_is_none(declared: Properties) -> None:
    with pytest.raises(PropertyNotFound):
        declared.remove(VIEW, Level.NIC, "pincpu")


@pytest.mark.parametrize(("count", "told"), [(2, "vm2, vm3$"), (12, "and 2 others")])
def test_remove_names_the_vms_that_have_it(
    declared: Properties, count: int, told: str
) -> None:
    has = (CustomProperty("pincpu", "1"),)
    vms = (
        fleet.vm(
            each, spec=replace(fleet.spec(each, f"vm{each}"), custom_properties=has)
        )
        for each in range(2, 2 + count)
    )
    with pytest.raises(PropertyInUse, match=told):
        declared.remove(say(VIEW, 1, *vms), Level.VM, "pincpu")


def test_declared_again_it_keeps_what_is_not_named(database: db.Database) -> None:
    known = Properties(database)
    first = known.declare(
        Level.VM, "rack", "^a$", "Where it is", "before_vm_start/50_rack"
    )
    again = known.declare(Level.VM, "rack", "^b$")
    assert again == replace(first, pattern="^b$")
    assert known.declare(Level.VM, "rack", "^b$", "", "").needs_hook == ""
