"""Tests of the pages of templates as a browser without scripts."""

from dataclasses import replace

import pytest

from aggregator.dashboard import queries, storage_queries
from node.model.ids import TemplateId, VmId
from node.model.templates import ChangeTemplate, CloneVm, CreateTemplate
from node.units import GiB
from tests.fakes import fleet_storage as stored
from tests.fakes import storage_orders
from tests.fakes.services import OAK
from tests.unit.aggregator.dashboard import browsers
from tests.unit.aggregator.dashboard.browsers import Browser

APP = f"/ui/vms/{stored.APP}"
T1 = TemplateId("7e400000-0000-4000-8000-000000000001")
T2 = TemplateId("7e400000-0000-4000-8000-000000000002")
NEW = VmId("aaaa0000-0000-4000-8000-000000000001")
PAGE = f"/ui/templates/{T1}"


@pytest.fixture
def browser() -> Browser:
    browser = browsers.open_on(stored.make_fleet())
    browsers.log_in(browser)
    return browser


def make(browser: Browser, template_id: TemplateId = T1, **fields: str) -> None:
    said = {"template_id": template_id, "name": "debian", **fields}
    answer = browser.post(f"{APP}/template", **said)
    assert answer.status_code == 303, answer.text
    assert answer.headers["Location"] == f"/ui/templates/{template_id}"


def asked(browser: Browser) -> tuple[str, object]:
    """Return what was ordered last of storage: the verb and its body."""
    verb, _, request, _ = browser.fleet.orders.storage.asked[-1]
    return verb, request


def test_list_says_that_there_is_none(browser: Browser) -> None:
    assert "There is no template yet." in browser.get("/ui/templates")


def test_a_vm_that_is_down_offers_to_become_one(browser: Browser) -> None:
    assert f"{APP}/template" in browser.get(APP)
    question = browser.get(f"{APP}/template")
    assert len(browsers.hidden(question, "template_id")) == len(T1)


def test_making_one_is_ordered_and_shown(browser: Browser) -> None:
    make(browser, description="as installed")
    assert asked(browser) == (
        "template_create",
        CreateTemplate(T1, "debian", stored.APP, "as installed"),
    )
    page = browser.get("/ui/templates")
    assert PAGE in page
    assert "as installed" in page
    assert "data1" in page


def test_one_that_is_being_made_shows_its_order(browser: Browser) -> None:
    browser.fleet.orders.is_held = True
    make(browser)
    assert "Make template debian" in browser.get(PAGE)


def test_a_version_is_listed_with_its_base(browser: Browser) -> None:
    make(browser)
    assert "a version of debian" in browser.get(f"{APP}/template")
    make(browser, T2, base_id=T1, version_name="newer")
    assert "2 newer" in browser.get(PAGE)


def test_search_opens_the_only_template_that_fits(browser: Browser) -> None:
    make(browser, name="golden")
    answer = browser.client.get("/ui/search?q=golden")
    assert answer.headers["Location"] == PAGE


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("", ["debian", "golden"], id="all"),
        pytest.param("GOLD", ["golden"], id="name"),
        pytest.param("installed", ["debian"], id="word-of-its-description"),
        pytest.param("Templates: data1", ["debian", "golden"], id="word-of-its-place"),
        pytest.param("description=*ready*", ["golden"], id="description"),
        pytest.param("storage!=data*", [], id="not-there"),
        pytest.param("vm=made", ["debian"], id="vm"),
        pytest.param('vm=""', ["golden"], id="of-no-vm"),
        pytest.param(f"id={T2}", ["golden"], id="id"),
        pytest.param("alert=yes", [], id="alert"),
        pytest.param("status=ok", [], id="unknown-of-templates"),
    ],
)
def test_templates_are_found_by_what_is_typed(
    text: str, names: list[str], browser: Browser
) -> None:
    make(browser, description="as installed")
    make(browser, T2, name="golden", description="ready to use")
    browser.post(f"{PAGE}/new-vm", name="made", vm_id=NEW, kind="thin")
    view = browser.fleet.mirror.view
    found = storage_queries.find_templates(view, queries.parse(text))
    assert [each.name for each in found] == names


def test_list_is_filtered(browser: Browser) -> None:
    make(browser)
    assert f"template-{T1}" not in browser.get("/ui/templates?q=nothing")
    assert "No template fits" in browser.get("/ui/templates?q=nothing")
    assert f"template-{T1}" in browser.get("/ui/templates?q=deb")


@pytest.mark.parametrize("kind", ["thin", "full"])
def test_a_vm_is_made_of_it(browser: Browser, kind: str) -> None:
    make(browser)
    assert "shares the template" in browser.get(f"{PAGE}/new-vm")
    answer = browser.post(f"{PAGE}/new-vm", name="made", vm_id=NEW, kind=kind)
    assert answer.headers["Location"] == f"/ui/vms/{NEW}"
    verb, request = asked(browser)
    assert (verb == "vm_clone") is (kind == "full")
    assert isinstance(request, CloneVm) is (kind == "full")
    is_free = "No VM: it can be deleted." in browser.get(PAGE)
    assert is_free is (kind == "full")


def test_each_disk_of_a_full_copy_lies_where_it_is_asked_for(browser: Browser) -> None:
    vm = stored.definition()
    more = replace(vm.spec.disks[0], disk_id=stored.LOOSE, name="data")
    spec = replace(vm.spec, disks=(*vm.spec.disks, more))
    storage_orders.say(browser.fleet.mirror, OAK, replace(vm, spec=spec))
    make(browser)
    first, second = browser.fleet.mirror.view.templates[T1].disk_ids
    form = browser.get(f"{PAGE}/new-vm")
    assert f'name="on-{first}"' in form
    said = {f"on-{second}": stored.DATA2, "name": "made", "vm_id": NEW, "kind": "full"}
    browser.post(f"{PAGE}/new-vm", **said)
    _, request = asked(browser)
    assert isinstance(request, CloneVm)
    places = [each.storage_domain_id for each in request.spec.disks]
    assert places == [stored.DATA1, stored.DATA2]


def test_a_full_copy_that_is_being_made_shows_its_order(browser: Browser) -> None:
    make(browser)
    browser.fleet.orders.is_held = True
    browser.post(f"{PAGE}/new-vm", name="made", vm_id=NEW, kind="full")
    assert "as a full copy" in browser.get(f"/ui/vms/{NEW}")


def test_the_form_of_a_vm_offers_it(browser: Browser) -> None:
    make(browser)
    assert f'value="template/{T1}"' in browser.get("/ui/vms/new")
    answer = browser.post(
        "/ui/vms/new",
        vm_id=NEW,
        name="made",
        image=f"template/{T1}",
        memory_gib="2",
        vcpus="3",
        network="ovirtmgmt",
    )
    assert answer.status_code == 303, answer.text
    vm = browser.fleet.mirror.view.vms[NEW]
    assert (vm.template_id, vm.memory_bytes, vm.vcpus) == (T1, 2 * GiB, 3)


def test_a_change_is_ordered(browser: Browser) -> None:
    make(browser)
    browser.post(f"{PAGE}/edit", name="debian", description="newer", memory_gib="2")
    change = ChangeTemplate("debian", "newer", None, 2 * GiB)
    assert asked(browser) == ("template_change", change)
    assert "newer" in browser.get(PAGE)


def test_deletion_is_asked_for_first(browser: Browser) -> None:
    make(browser)
    assert "Delete: debian" in browser.get(f"{PAGE}/delete")
    browser.post(f"{PAGE}/delete")
    assert "There is no template yet." in browser.get("/ui/templates")
    assert browser.client.get(PAGE).status_code == 404


def test_a_disk_of_a_template_is_used_by_that(browser: Browser) -> None:
    make(browser)
    (disk_id,) = browser.fleet.mirror.view.templates[T1].disk_ids
    for page in ("/ui/disks", f"/ui/disks/{disk_id}"):
        assert f'template <a href="{PAGE}"' in browser.get(page)
