"""What nodes say of templates becomes the next View."""

from dataclasses import replace

from aggregator.federation import apply
from aggregator.federation.view import TemplateRow, View
from node.model.ids import DiskId, TemplateId, VmId
from node.model.storage import PoolMark
from node.model.templates import Template
from node.model.vm import Disk, VmSpec
from node.units import GiB
from tests.fakes import fleet
from tests.unit.aggregator.federation.test_apply import hear, view_of

FIRST, SECOND = PoolMark(1, 1), PoolMark(2, 1)
T1 = TemplateId("7e400000-0000-4000-8000-000000000001")
DISK = DiskId("d15c0000-0000-4000-8000-000000000001")
SPEC = VmSpec(
    VmId(T1),
    "debian",
    GiB,
    disks=(Disk(DISK, "root", GiB),),
    pool_id=fleet.pool_id(),
)


def template(mark: PoolMark | None = FIRST, name: str = "debian") -> Template:
    return Template(T1, replace(SPEC, name=name), 1, fleet.AT, version=2, mark=mark)


def told(view: View) -> TemplateRow:
    return view.templates[T1]


def managed() -> View:
    """Return what is known of a pool that node 1 manages and node 2 is in."""
    view = hear(view_of(1, 2), 1, fleet.pool(1, mark=FIRST), template())
    return hear(view, 2, fleet.pool(2, holder=1))


def test_template_is_told_by_its_manager() -> None:
    row = told(managed())
    assert (row.name, row.version, row.pool_id) == ("debian", 2, fleet.pool_id())
    assert (row.disk_ids, row.node_id) == ((DISK,), fleet.node_id(1))
    assert managed().template_order == (("debian", T1),)


def test_template_that_its_manager_deletes_is_gone() -> None:
    view, _ = apply.set_documents(
        managed(), fleet.node_id(1), (fleet.gone(template()),)
    )
    assert not view.templates
    assert not view.template_claims
    assert view.template_order == ()


def test_the_highest_mark_is_believed_whoever_came_first() -> None:
    newer = template(SECOND, "newer")
    view = hear(managed(), 2, newer)
    assert told(view).name == "newer"
    view = hear(view, 1, template(FIRST, "older"))
    assert told(view).name == "newer"


def test_template_stays_while_the_manager_changes() -> None:
    view = hear(managed(), 1, fleet.pool(1))  # it leaves, and tells nothing more
    view, _ = apply.set_documents(view, fleet.node_id(1), (fleet.gone(template()),))
    assert told(view).is_left
    view = hear(view, 2, fleet.pool(2, mark=SECOND), template(SECOND))
    assert not told(view).is_left
    assert told(view).node_id == fleet.node_id(2)
    assert len(view.template_claims[T1]) == 1


def test_what_a_former_manager_left_is_void_once_the_next_has_spoken() -> None:
    view = hear(managed(), 1, fleet.pool(1))
    view, _ = apply.set_documents(view, fleet.node_id(1), (fleet.gone(template()),))
    disk = fleet.disk(1, mark=SECOND)
    view = hear(view, 2, fleet.pool(2, mark=SECOND), disk)
    assert not view.templates, "the next manager knows it not"


def test_a_node_that_goes_takes_what_it_said_along() -> None:
    view = apply.remove_node(managed(), fleet.node_id(1))
    assert not view.templates


def test_a_resync_without_it_is_a_deletion() -> None:
    said = fleet.said(fleet.pool(1, mark=FIRST))
    view, _ = apply.set_documents(managed(), fleet.node_id(1), said, is_complete=True)
    assert not view.templates
