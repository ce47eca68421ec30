"""What is ordered of templates, and of VMs made of them: by the pool's manager."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aggregator.access.defaults import ensure_defaults
from aggregator.control import templating
from aggregator.control.order import Order
from aggregator.control.orders import Orders
from aggregator.control.placing import NameTaken
from aggregator.control.routes import TemplateNotFound, VmPoolUnknown
from aggregator.control.templating import NoCopyThere
from node.model import template_verbs as verbs
from node.model.ids import DiskId, TemplateId, VmId
from node.model.job import JobState
from node.model.templates import (
    ChangeTemplate,
    CloneVm,
    CreateTemplate,
    DeleteTemplate,
    Template,
)
from node.model.verb import Verb
from node.model.vm import Disk, Nic, VmSpec
from node.units import GiB
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ORIGIN, TWO, Parts
from tests.unit.aggregator.control.test_crash_replay import crash_everywhere
from tests.unit.aggregator.control.test_storage_orders import (
    DATA,
    FIRST,
    POOL,
    finish_jobs,
    share_storage,
    with_pool,
)

VM, NEW = fleet.vm_id(7), fleet.vm_id(8)
T1 = TemplateId("7e400000-0000-4000-8000-000000000001")
T2 = TemplateId("7e400000-0000-4000-8000-000000000002")
ROOT = DiskId("d15c0000-0000-4000-8000-000000000001")
CREATE = CreateTemplate(T1, "debian", VM)
TEMPLATE = Template(
    T1,
    VmSpec(
        VmId(T1),
        "debian",
        GiB,
        disks=(Disk(ROOT, "root", GiB, storage_domain_id=DATA),),
        nics=(Nic(fleet.node_id(3), "nic1", "", "ovirtmgmt"),),  # type: ignore[arg-type]  # any UUID
        pool_id=POOL,
    ),
    1,
    fleet.AT,
    mark=FIRST,
)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    made = Parts(tmp_path)
    ensure_defaults(made.database)
    share_storage(made)
    finish_jobs(made)
    with_pool(made)
    disk = replace(fleet.disk(9, mark=FIRST), disk_id=ROOT, template_id=T1)
    made.say(2, fleet.vm(7, spec=fleet.spec(7, "app", pool_id=POOL)), fleet.run(7, 2))
    made.say(2, TEMPLATE, disk)
    made.nodes[TWO].replies.append(TEMPLATE)
    yield made
    made.database.close()


def spec(parts: Parts, **options: Any) -> VmSpec:
    return templating.spec(parts.viewer.view, T1, NEW, "made", **options)


@pytest.mark.parametrize(
    ("verb", "object_id", "request_", "name"),
    [
        pytest.param(verbs.TEMPLATE_CREATE, T1, CREATE, "debian", id="create"),
        pytest.param(
            verbs.TEMPLATE_CREATE,
            T2,
            replace(CREATE, template_id=T2, name="x", base_id=T1),
            "debian",
            id="create-a-version",
        ),
        pytest.param(
            verbs.TEMPLATE_CHANGE, T1, ChangeTemplate("other"), "debian", id="change"
        ),
        pytest.param(
            verbs.TEMPLATE_DELETE, T1, DeleteTemplate(), "debian", id="delete"
        ),
    ],
)
def test_manager_of_the_pool_is_asked(
    parts: Parts, verb: Verb, object_id: str, request_: Any, name: str
) -> None:
    made = parts.orders.act_on_storage(verb, object_id, request_, ORIGIN)
    assert (made.state, made.name, made.node_id) == (JobState.DONE, name, TWO)
    (asked,) = parts.nodes[TWO].requests
    assert asked[0] == verb.name


def test_template_of_a_vm_whose_pool_nobody_tells_is_refused(
    parts: Parts,
) -> None:
    parts.say(1, fleet.run(6, 1))
    request = replace(CREATE, vm_id=fleet.vm_id(6))
    with pytest.raises(VmPoolUnknown):
        parts.orders.act_on_storage(verbs.TEMPLATE_CREATE, T1, request, ORIGIN)


def test_template_that_is_not_there_is_refused(parts: Parts) -> None:
    gone = TemplateId(fleet.vm_id(9))
    with pytest.raises(TemplateNotFound):
        parts.orders.act_on_storage(
            verbs.TEMPLATE_DELETE, gone, DeleteTemplate(), ORIGIN
        )


def test_thin_vm_is_made_as_any_other_and_a_clone_is_a_job(parts: Parts) -> None:
    thin = templating.make_vm(parts.orders, spec(parts), ORIGIN)
    assert thin.verb == "vm_create"
    full = replace(spec(parts, is_clone=True), vm_id=fleet.vm_id(9), name="full")
    made = templating.make_vm(parts.orders, full, ORIGIN)
    assert (made.verb, made.vm_id, made.name) == ("vm_clone", full.vm_id, "full")
    verb, _, request = parts.nodes[TWO].requests[-1]
    assert verb == "vm_clone"
    assert isinstance(request, CloneVm)
    assert request.spec == full


def test_clone_of_a_name_that_is_taken_is_refused(parts: Parts) -> None:
    taken = replace(spec(parts, is_clone=True), name="app")
    with pytest.raises(NameTaken):
        templating.make_vm(parts.orders, taken, ORIGIN)


def test_what_is_being_made_is_known(parts: Parts) -> None:
    parts.nodes[TWO].job_state = JobState.RUNNING
    wanted = spec(parts, is_clone=True)
    templating.make_vm(parts.orders, wanted, ORIGIN)
    making = parts.orders.making("vm_clone", NEW)
    assert making is not None
    assert making.request.spec == wanted
    assert parts.orders.making("vm_clone", VM) is None
    assert parts.orders.making("template_create", NEW) is None


def test_a_vm_has_free_addresses_and_keeps_them(parts: Parts) -> None:
    wanted = spec(parts)
    (nic,) = wanted.nics
    assert nic.mac.startswith("56:6f:")
    parts.say(2, fleet.vm(8, spec=wanted), fleet.run(8, 2))
    assert spec(parts) == wanted


def test_thin_vm_lies_where_the_template_has_a_copy(parts: Parts) -> None:
    assert spec(parts, places={ROOT: DATA}).disks[0].storage_domain_id == DATA
    parts.say(2, fleet.storage_domain(2, 5, mark=FIRST))
    elsewhere = {ROOT: fleet.domain_id(5)}
    with pytest.raises(NoCopyThere):
        spec(parts, places=elsewhere)
    assert spec(parts, places=elsewhere, is_clone=True).disks[0].storage_domain_id == (
        fleet.domain_id(5)
    )


def test_users_are_the_thin_vms(parts: Parts) -> None:
    full = replace(spec(parts, is_clone=True), vm_id=fleet.vm_id(9), name="full")
    parts.say(2, fleet.vm(8, spec=spec(parts)), fleet.run(8, 2))
    parts.say(2, fleet.vm(9, spec=full), fleet.run(9, 2))
    users = templating.users(parts.viewer.view, T1)
    assert [each.name for each in users] == ["made"]


def test_a_clone_is_made_once_wherever_the_aggregator_stops(tmp_path: Path) -> None:
    def prepare(parts: Parts) -> None:
        ensure_defaults(parts.database)
        for node in parts._whole.values():  # type: ignore[attr-defined]  # a FragileParts
            node.job_state = JobState.DONE
        with_pool(parts)
        parts.say(2, TEMPLATE)
        wanted.append(spec(parts, is_clone=True))

    def ask(orders: Orders) -> Order:
        return templating.make_vm(orders, wanted[-1], ORIGIN)

    wanted: list[VmSpec] = []
    crashes = 0
    for parts in crash_everywhere(tmp_path, ask, prepare):
        crashes += 1
        for _ in range(3):
            parts.pass_time(11.0)
        orders = parts.orders.list()
        assert all(each.state is JobState.DONE for each in orders)
        asked = {request.job_id for _, _, request in parts.nodes[TWO].requests}
        assert len(asked) == len(orders)
    assert crashes >= 3
