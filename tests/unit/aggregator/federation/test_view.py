"""What the View is asked: pages, names, figures."""

from hypothesis import given
from hypothesis import strategies as st

from aggregator.federation import apply
from aggregator.federation import view as views
from aggregator.federation.view import View
from node.model.reason import Reason
from tests.fakes import fleet


def view_of(*names: str) -> View:
    reason = Reason("node_never_heard", fleet.AT)
    view = apply.add_node(View(), fleet.node_id(1), "n1", "", fleet.AT, reason)
    said = fleet.said(*(fleet.vm(i, name) for i, name in enumerate(names, 1)))
    return apply.set_documents(view, fleet.node_id(1), said)[0]


def test_page_goes_by_name_whatever_the_case() -> None:
    view = view_of("b", "C", "a", "D")
    assert [vm.name for vm in views.page(view, 1, 2)] == ["b", "C"]


def test_page_is_empty_past_the_end() -> None:
    assert views.page(view_of("a"), 1, 10) == ()


def test_vms_named_finds_exactly_that_name() -> None:
    view = view_of("web", "Web", "web2", "we")
    assert [vm.name for vm in views.vms_named(view, "web")] == ["web"]


def test_vms_named_finds_a_name_in_any_normal_form() -> None:
    assert [vm.name for vm in views.vms_named(view_of("café"), "café")]


def test_stats_of_is_none_for_what_is_not_there() -> None:
    view = view_of("a")
    assert views.stats_of(view, fleet.vm_id(1)) is None
    assert views.stats_of(view, fleet.vm_id(9)) is None


@given(st.lists(st.text(min_size=1, max_size=4), max_size=20), st.text(max_size=4))
def test_vms_named_finds_what_a_scan_finds(names: list[str], wanted: str) -> None:
    view = view_of(*names)
    for name in [*names, wanted]:
        found = {vm.vm_id for vm in views.vms_named(view, name)}
        assert found == {
            vm.vm_id
            for vm in view.vms.values()
            if views.normal(vm.name) == views.normal(name)
        }
