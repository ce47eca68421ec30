"""Custom properties in orders: checked by what the fleet declares, then sent on."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.access.defaults import ensure_defaults
from aggregator.control.routes import VmNotFound, VmPoolUnknown
from aggregator.policies.properties import BadPropertyValue, Level, UndeclaredProperty
from node.model.hooks import HookScript
from node.model.ids import SnapshotId
from node.model.job import JobState
from node.model.properties import CustomProperty
from node.model.requests import SetProperties
from node.model.templates import SnapshotCopied
from node.policy.properties import NoSuchDevice
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ORIGIN, TWO, Parts
from tests.unit.aggregator.control.test_storage_orders import (
    POOL,
    finish_jobs,
    share_storage,
    with_pool,
)
from tests.unit.aggregator.control.test_template_orders import TEMPLATE

VM, NEW = fleet.vm_id(7), fleet.vm_id(8)
GOOD = (CustomProperty("pincpu", "1-4"),)
BAD = (CustomProperty("pincpu", "all"),)
STRAY = (CustomProperty("floppy", "/a.vfd"),)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    ensure_defaults(made.database)
    share_storage(made)
    finish_jobs(made)
    with_pool(made)
    spec = fleet.spec(7, "app", pool_id=POOL, custom_properties=STRAY)
    made.say(2, fleet.vm(7, spec=spec), fleet.run(7, 2))
    made.orders.properties.declare(Level.VM, "pincpu", "[0-9-]+")
    yield made
    made.database.close()


def test_set_properties_asks_the_manager_of_the_pool(parts: Parts) -> None:
    asked = SetProperties((*STRAY, *GOOD), generation=1)
    made = parts.orders.set_properties(VM, asked, ORIGIN)
    assert (made.state, made.name, made.node_id) == (JobState.DONE, "app", TWO)
    ((verb, _, request),) = parts.nodes[TWO].requests
    assert verb == "vm_set_properties"
    assert request == replace(
        asked, job_id=made.order_id, correlation_id=ORIGIN.correlation_id
    )


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        pytest.param(SetProperties(BAD), BadPropertyValue, id="value"),
        pytest.param(
            SetProperties((replace(STRAY[0], value="/b"),)),
            UndeclaredProperty,
            id="name",
        ),
        pytest.param(SetProperties(GOOD, "none"), NoSuchDevice, id="device"),
    ],
)
def test_set_properties_asks_nobody_for_what_is_wrong(
    parts: Parts, request_: SetProperties, error: type[Exception]
) -> None:
    with pytest.raises(error):
        parts.orders.set_properties(VM, request_, ORIGIN)
    assert parts.nodes[TWO].requests == []


def test_set_properties_needs_a_vm_that_is_defined(parts: Parts) -> None:
    with pytest.raises(VmNotFound):
        parts.orders.set_properties(NEW, SetProperties(GOOD), ORIGIN)
    parts.say(1, fleet.run(6, 1))
    with pytest.raises(VmPoolUnknown):
        parts.orders.set_properties(fleet.vm_id(6), SetProperties(GOOD), ORIGIN)


def test_create_vm_checks_properties(parts: Parts) -> None:
    with pytest.raises(BadPropertyValue):
        parts.orders.create_vm(fleet.spec(8, custom_properties=BAD), ORIGIN)
    made = parts.orders.create_vm(fleet.spec(8, custom_properties=GOOD), ORIGIN)
    assert made.state is JobState.DONE


def test_create_vm_again_is_the_same_vm_whatever_is_declared_by_now(
    parts: Parts,
) -> None:
    spec = fleet.spec(8, custom_properties=GOOD)
    first = parts.orders.create_vm(spec, ORIGIN)
    parts.orders.properties.declare(Level.VM, "pincpu", "none")
    assert parts.orders.create_vm(spec, ORIGIN).order_id == first.order_id


def test_vm_may_have_what_its_template_has(parts: Parts) -> None:
    template = replace(TEMPLATE, spec=replace(TEMPLATE.spec, custom_properties=STRAY))
    parts.say(2, template)
    spec = fleet.spec(
        8, pool_id=POOL, template_id=template.template_id, custom_properties=STRAY
    )
    assert parts.orders.create_vm(spec, ORIGIN).verb == "vm_create"
    other = replace(spec, vm_id=fleet.vm_id(9), name="other", is_clone=True)
    wrong = replace(other, custom_properties=(*STRAY, *BAD))
    with pytest.raises(BadPropertyValue):
        parts.orders.clone_vm(wrong, ORIGIN)
    assert parts.orders.clone_vm(other, ORIGIN).verb == "vm_clone"


def test_vm_of_a_snapshot_is_as_it_was(parts: Parts) -> None:
    spec = fleet.spec(8, pool_id=POOL, custom_properties=STRAY)
    copied = SnapshotCopied(VM, SnapshotId("kept"), ())
    assert parts.orders.clone_vm(spec, ORIGIN, copied).verb == "vm_clone"


def test_vm_is_placed_only_where_the_hook_is_that_it_needs(parts: Parts) -> None:
    hook = HookScript("before_vm_start", "50_pincpu", "/h", 1, "s", "m")
    needed = "before_vm_start/50_pincpu"
    parts.orders.properties.declare(Level.VM, "pincpu", ".*", needs_hook=needed)
    wanted = fleet.spec(8, "new", custom_properties=GOOD)
    nobody = parts.orders.explain(wanted)
    assert nobody.node_id is None
    for verdict in nobody.verdicts:
        assert [each.code for each in verdict.reasons] == ["node_lacks_hook"]
    assert parts.orders.explain(replace(wanted, custom_properties=())).node_id
    parts.say(2, fleet.facts(2, hooks=(hook,)))
    assert parts.orders.explain(wanted).node_id == TWO
