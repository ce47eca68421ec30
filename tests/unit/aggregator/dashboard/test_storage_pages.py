"""Tests of the pages of storage, pools and disks as a browser without scripts."""

import re
from dataclasses import replace

import pytest
from werkzeug.test import TestResponse

from node.errors import Unavailable
from node.model import storage_requests as bodies
from node.model.ids import DiskId, StorageDomainId
from node.model.reason import Reason
from node.model.storage import (
    DiskFormat,
    DiskQos,
    DiskState,
    DomainClass,
    DomainState,
    PoolState,
    StorageDomain,
)
from node.model.vm import Disk, DiskInterface, VmRun, VmState
from node.units import GiB
from tests.fakes import fleet_storage as stored
from tests.fakes import storage_orders
from tests.fakes.services import AT, ELM, OAK
from tests.unit.aggregator.dashboard import browsers
from tests.unit.aggregator.dashboard.browsers import Browser

NEW_ID = "12345678-1234-4234-8234-123456789abc"
DATA1 = f"/ui/storage/{stored.DATA1}"
SPARE = f"/ui/storage/{stored.SPARE}"
SHARED = f"/ui/pools/{stored.SHARED}"
SYSTEM = f"/ui/disks/{stored.SYSTEM}"
LOOSE = f"/ui/disks/{stored.LOOSE}"
PLACE = {"kind": "nfs", "address": "nas.test", "path": "/exports/old"}
OLD = StorageDomain(
    StorageDomainId("77777777-0000-4000-8000-0000000000aa"),
    "old-data",
    DomainClass.DATA,
    stored.NFS,
)


@pytest.fixture
def browser() -> Browser:
    browser = browsers.open_on(stored.make_fleet())
    browsers.log_in(browser)
    return browser


def _say(browser: Browser, node_id: str, *documents: object) -> None:
    storage_orders.say(browser.fleet.mirror, node_id, *documents)  # type: ignore[arg-type]  # ids are text
    browser.fleet.clock.advance(1)


def _asked(browser: Browser) -> tuple[str, str, object, object]:
    """Return what was ordered last."""
    return browser.fleet.orders.storage.asked[-1]


def _texts(page: str) -> str:
    """Return what a page says, in one line."""
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        pytest.param(
            "/ui/storage",
            ["Data center Default", "Pool shared ● Up Manager oak Master data1",
             "elm ○ Member ● Alive", "spare", "Not attached", "Local storage"],
            id="storage",
        ),
        pytest.param(
            DATA1,
            ["nas.test", "/exports/data1", "4.2", "Put into maintenance", "2 ms",
             "oak", "elm", "system", "60 GiB", "master"],
            id="storage-domain",
        ),
        pytest.param(
            SHARED,
            ["managed by oak", "version 3", "generation 7", "High …", "Normal …",
             "Make it the manager", "Move the master"],
            id="pool",
        ),
        pytest.param("/ui/disks", ["system", "app", "no VM", "data1"], id="disks"),
        pytest.param("/ui/disks?q=storage%3Delm*", ["scratch", "1–1 of"], id="few"),
        pytest.param(
            SYSTEM,
            ["10 GiB", "2 GiB", "qcow2", "data of a guest", "app", stored.LEAF,
             "the only one"],
            id="disk",
        ),
        pytest.param("/ui/storage/new", ["root_squash", "CephFS", "any that is up",
                                         "local pool of its own"], id="new-storage"),
        pytest.param("/ui/disks/new", ["data2, 60 GiB free", "thin"], id="new-disk"),
        pytest.param(f"{DATA1}/check", ["3 disks were read", "are whole"], id="check"),
        pytest.param(f"/ui/vms/{stored.APP}", ["system", "OK", "data1"], id="vm"),
        pytest.param("/", ["Shared storage", "80 GiB of 200 GiB"],
                     id="overview"),
        pytest.param("/ui/search?q=data", ["data1", "data2", "loose"], id="search"),
    ],
)  # fmt: skip
def test_pages_show_the_storage(path: str, texts: list[str], browser: Browser) -> None:
    page = _texts(browser.get(path))
    assert [text for text in texts if text not in page] == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        pytest.param(
            "/ui/storage/none", "there is no storage domain none", id="domain"
        ),
        pytest.param("/ui/pools/none", "there is no pool none", id="pool"),
        pytest.param("/ui/disks/none", "there is no disk none", id="disk"),
    ],
)
def test_what_is_not_there_is_a_page(path: str, text: str, browser: Browser) -> None:
    answer = browser.client.get(path)
    assert (answer.status_code, text in answer.text) == (404, True)


@pytest.mark.parametrize("state", list(DomainState), ids=str)
def test_every_state_of_a_domain_can_be_shown(
    state: DomainState, browser: Browser
) -> None:
    _say(browser, OAK, stored.domain(OAK, stored.DATA1, state=state))
    shown = [browser.client.get(path).status_code for path in ("/ui/storage", DATA1)]
    assert shown == [200, 200]


@pytest.mark.parametrize("state", list(PoolState), ids=str)
def test_every_state_of_a_pool_can_be_shown(state: PoolState, browser: Browser) -> None:
    _say(browser, OAK, stored.pool(OAK, state=state))
    shown = [browser.client.get(path).status_code for path in ("/ui/storage", SHARED)]
    assert shown == [200, 200]


@pytest.mark.parametrize("state", list(DiskState), ids=str)
def test_every_state_of_a_disk_can_be_shown(state: DiskState, browser: Browser) -> None:
    _say(browser, OAK, stored.disk(stored.SYSTEM, "system", state=state))
    paths = ("/ui/disks", SYSTEM, f"/ui/vms/{stored.APP}")
    assert [browser.client.get(path).status_code for path in paths] == [200, 200, 200]


def test_a_lost_storage_domain_tells_its_causes_and_the_remedy(
    browser: Browser,
) -> None:
    cause = Reason("storage_domain_slow", AT, {"name": "data2", "latency_s": 30})
    fields = {"node": "elm", "name": "data2", "detail": "no answer"}
    why = Reason("storage_domain_unreachable", AT, fields, cause)
    told = stored.domain(ELM, stored.DATA2, state=DomainState.UNREACHABLE, reason=why)
    _say(browser, ELM, told)
    page = _texts(browser.get(f"/ui/storage/{stored.DATA2}"))
    texts = ["Active, not everywhere", "cannot use storage domain data2: no answer",
             "Check the server", "took 30 s"]  # fmt: skip
    assert [text for text in texts if text not in page] == []
    assert "Check the server" in browser.get("/")


def test_a_data_center_without_a_pool_says_what_to_do(browser: Browser) -> None:
    records = browser.fleet.database.records("fleet")
    records.delete(f"pool/{stored.SHARED}")
    page = _texts(browser.get("/ui/storage"))
    assert "Its nodes share no storage yet." in page
    assert "A pool of no data center" in page


# storage domains


@pytest.mark.parametrize(
    ("domain_id", "name", "form", "asked"),
    [
        pytest.param(
            stored.ISO1,
            "activate",
            {},
            ("storage_domain_activate", stored.ISO1, bodies.ActOnStorageDomain(), None),
            id="activate",
        ),
        pytest.param(
            stored.DATA1,
            "change",
            {"name": " gold ", "description": "", "wipe": "yes"},
            (
                "storage_domain_change",
                stored.DATA1,
                bodies.ChangeStorageDomain("gold", "", True),
                None,
            ),
            id="change",
        ),
        pytest.param(
            stored.DATA1,
            "maintain",
            {},
            (
                "storage_domain_maintain",
                stored.DATA1,
                bodies.ActOnStorageDomain(),
                None,
            ),
            id="maintain",
        ),
        pytest.param(
            stored.ISO1,
            "detach",
            {"further": "yes"},
            (
                "storage_domain_detach",
                stored.ISO1,
                bodies.ActOnStorageDomain(is_forced=True),
                None,
            ),
            id="detach-by-force",
        ),
        pytest.param(
            stored.SPARE,
            "attach",
            {},
            (
                "storage_domain_attach",
                stored.SPARE,
                bodies.AttachStorageDomain(stored.SHARED),
                None,
            ),
            id="attach",
        ),
        pytest.param(
            stored.SPARE,
            "remove",
            {},
            ("storage_domain_remove", stored.SPARE, bodies.RemoveStorageDomain(), None),
            id="forget",
        ),
        pytest.param(
            stored.SPARE,
            "remove",
            {"further": "yes"},
            (
                "storage_domain_remove",
                stored.SPARE,
                bodies.RemoveStorageDomain(is_formatted=True),
                None,
            ),
            id="destroy",
        ),
    ],
)
def test_actions_on_a_storage_domain_are_ordered(
    domain_id: str,
    name: str,
    form: dict[str, str],
    asked: tuple[object, ...],
    browser: Browser,
) -> None:
    answer = browser.post(f"/ui/storage/{domain_id}/{name}", **form)
    assert (answer.status_code, _asked(browser)) == (303, asked)


def test_a_question_says_what_an_action_means(browser: Browser) -> None:
    page = browser.get(f"{SPARE}/remove")
    texts = ["The fleet forgets it", "Destroy all that lies on it", 'name="further"']
    assert [text for text in texts if text not in page] == []


def test_attaching_offers_the_data_centers(browser: Browser) -> None:
    page = browser.get(f"{SPARE}/attach")
    assert ("Default</option>" in page, "button strong" in page) == (True, True)


def test_a_refused_order_is_told_on_the_page_that_it_came_from(
    browser: Browser,
) -> None:
    browser.fleet.orders.storage.refusal = Unavailable("pool shared has no manager")
    browser.post(f"{DATA1}/maintain", back=DATA1)
    assert "pool shared has no manager" in browser.get(DATA1)


def test_a_check_offers_the_repair_of_what_it_found(browser: Browser) -> None:
    problem = bodies.StorageProblem(
        stored.LOOSE, "x", "Nothing reads it.", "loose", repair=("delete its file",)
    )
    found = bodies.StorageProblems((problem,), 4)
    browser.fleet.node.storage_domain_check = lambda _id: found  # type: ignore[method-assign]  # what it finds
    page = _texts(browser.get(f"{DATA1}/check"))
    assert "loose Nothing reads it. delete its file Repair" in page
    browser.post(f"{DATA1}/repair", disk_id=stored.LOOSE)
    assert _asked(browser)[2] == bodies.RepairStorage(stored.LOOSE)


def test_tasks_lead_to_what_they_are_about(browser: Browser) -> None:
    browser.post(f"{DATA1}/maintain")
    page = browser.get("/ui/tasks")
    assert f'<a href="{DATA1}">Put storage domain data1 into maintenance</a>' in page


# new storage


def test_looking_shows_what_lies_there(browser: Browser) -> None:
    browser.fleet.node.found = (OLD,)
    page = _texts(browser.post("/ui/storage/look", **PLACE).text)
    assert ("nas.test:/exports/old" in page, "old-data" in page) == (True, True)


def test_looking_offers_no_import_of_what_is_known(browser: Browser) -> None:
    browser.fleet.node.found = (
        StorageDomain(stored.DATA1, "data1", DomainClass.DATA, stored.NFS),
    )
    page = browser.post("/ui/storage/look", **PLACE).text
    assert ("in the fleet already" in page, "Import it" in page) == (True, False)


@pytest.mark.parametrize("path", ["/ui/storage/look", "/ui/storage/import"])
def test_an_answer_to_a_form_can_be_loaded_again(path: str, browser: Browser) -> None:
    answer = browser.client.get(path)
    assert (answer.status_code, "Look what is there" in answer.text) == (200, True)


def test_looking_with_a_wrong_form_keeps_what_was_typed(browser: Browser) -> None:
    answer = browser.post("/ui/storage/look", **{**PLACE, "address": ""})
    assert (answer.status_code, "/exports/old" in answer.text) == (400, True)
    assert 'aria-invalid="true"' in answer.text


def test_a_storage_domain_is_made_where_was_looked(browser: Browser) -> None:
    form = {**PLACE, "storage_domain_id": NEW_ID, "name": "fresh"}
    answer = browser.post("/ui/storage/new", **form)
    verb, object_id, request, _ = _asked(browser)
    assert (verb, object_id) == ("storage_domain_create", NEW_ID)
    assert isinstance(request, bodies.CreateStorageDomain)
    assert (request.name, request.connection.path) == ("fresh", "/exports/old")
    assert answer.headers["Location"] == f"/ui/storage/{NEW_ID}"


def test_a_storage_domain_without_a_name_is_refused(browser: Browser) -> None:
    form = {**PLACE, "storage_domain_id": NEW_ID, "description": "mine"}
    answer = browser.post("/ui/storage/new", **form)
    assert (answer.status_code, "needs a name" in answer.text) == (400, True)
    assert browsers.hidden(answer.text, "storage_domain_id") == NEW_ID


def test_a_storage_domain_that_is_being_made_has_a_page(browser: Browser) -> None:
    browser.fleet.orders.is_held = True
    form = {**PLACE, "storage_domain_id": NEW_ID, "name": "fresh"}
    browser.post("/ui/storage/new", **form)
    answer = browser.client.get(f"/ui/storage/{NEW_ID}")
    assert (answer.status_code, "Make storage domain fresh" in answer.text) == (
        200,
        True,
    )


def test_an_import_takes_what_lies_there_now(browser: Browser) -> None:
    browser.fleet.node.found = (OLD,)
    form = {**PLACE, "storage_domain_id": OLD.storage_domain_id, "force": "yes"}
    browser.post("/ui/storage/import", **form)
    verb, object_id, request, _ = _asked(browser)
    assert (verb, object_id) == ("storage_domain_import", OLD.storage_domain_id)
    assert isinstance(request, bodies.ImportStorageDomain)
    assert request.is_forced


def test_an_import_of_what_is_gone_is_refused(browser: Browser) -> None:
    known = StorageDomain(stored.DATA1, "data1", DomainClass.DATA, stored.NFS)
    browser.fleet.node.found = (known,)
    form = {**PLACE, "storage_domain_id": OLD.storage_domain_id}
    answer = browser.post("/ui/storage/import", **form)
    assert (answer.status_code, "Look again" in answer.text) == (404, True)


# pools


def test_a_node_is_made_the_manager(browser: Browser) -> None:
    page = browser.get(f"{SHARED}/elect?node_id={ELM}")
    assert "Let elm manage pool shared?" in page
    browser.post(f"{SHARED}/elect", node_id=ELM)
    assert "managed by elm" in _texts(browser.get(SHARED))


def test_a_priority_is_offered_and_set(browser: Browser) -> None:
    page = browser.get(f"{SHARED}/priority?node_id={ELM}")
    assert '<option value="7" selected>High</option>' in page
    browser.post(f"{SHARED}/priority", node_id=ELM, priority="-1")
    assert _asked(browser)[2:] == (bodies.SetSpmPriority(-1), ELM)


def test_a_priority_that_is_not_offered_is_refused(browser: Browser) -> None:
    browser.post(f"{SHARED}/priority", node_id=ELM, priority="99", back=SHARED)
    assert "there is no priority 99" in browser.get(SHARED)


def test_the_master_is_moved_to_active_data_only(browser: Browser) -> None:
    page = browser.get(f"{SHARED}/master")
    assert [f">{name}<" in page for name in ("data1", "data2", "iso1")] == [
        False,
        True,
        False,
    ]
    browser.post(f"{SHARED}/master", storage_domain_id=stored.DATA2)
    assert _asked(browser)[2] == bodies.MoveMaster(stored.DATA2)


def test_a_lost_master_may_be_given_up(browser: Browser) -> None:
    _say(browser, OAK, stored.pool(OAK, state=PoolState.MASTER_LOST))
    assert 'name="is_reconstruction"' in browser.get(f"{SHARED}/master")
    browser.post(
        f"{SHARED}/master", storage_domain_id=stored.DATA2, is_reconstruction="yes"
    )
    wanted = bodies.MoveMaster(stored.DATA2, is_reconstruction=True)
    assert _asked(browser)[2] == wanted


# disks


@pytest.mark.parametrize(
    ("name", "form", "request_"),
    [
        pytest.param(
            "resize", {"size_gib": "12"}, bodies.ResizeDisk(12 * GiB), id="resize"
        ),
        pytest.param(
            "move",
            {"storage_domain_id": stored.DATA2},
            bodies.MoveDisk(stored.DATA2),
            id="move",
        ),
        pytest.param(
            "copy",
            {"storage_domain_id": stored.DATA2, "disk_id": NEW_ID, "name": "twin"},
            bodies.CopyDisk(DiskId(NEW_ID), stored.DATA2, "twin"),
            id="copy",
        ),
        pytest.param(
            "edit",
            {"name": "root", "description": ""},
            bodies.ChangeDisk("root", ""),
            id="edit",
        ),
        pytest.param(
            "edit",
            {"name": "root", "description": "", "wipe": "yes"},
            bodies.ChangeDisk("root", "", wipe_after_delete=True),
            id="wipe",
        ),
        pytest.param(
            "edit",
            {"name": "root", "description": "", "shared": "yes"},
            bodies.ChangeDisk("root", "", True),
            id="share",
        ),
        pytest.param(
            "edit",
            {"name": "root", "description": "", "shared": "no"},
            bodies.ChangeDisk("root", "", False),
            id="unshare",
        ),
        pytest.param(
            "limit",
            {"total_iops": "500", "read_bytes_s": "2,5"},
            bodies.ChangeDisk(qos=DiskQos(500, read_bytes_s=2_500_000)),
            id="limit",
        ),
        pytest.param("sparsify", {}, bodies.SparsifyDisk(), id="sparsify"),
        pytest.param("delete", {}, bodies.ActOnDisk(), id="delete"),
    ],
)
def test_actions_on_a_disk_are_ordered(
    name: str, form: dict[str, str], request_: object, browser: Browser
) -> None:
    browser.post(f"{SYSTEM}/{name}", **form)
    assert _asked(browser)[2] == request_


def test_disk_is_attached_to_a_vm_on_the_bus_that_is_chosen(browser: Browser) -> None:
    page = browser.get(f"{LOOSE}/attach")
    assert [each in page for each in (">app<", ">SATA<", 'value="ide"')] == [True] * 3
    assert f"{LOOSE}/detach" not in browser.get(LOOSE)
    said = {"vm_id": stored.APP, "interface": "sata", "read_only": "yes"}
    browser.post(f"{LOOSE}/attach", **said)
    verb, vm_id, disk, _ = browser.fleet.orders.storage.asked[-1]
    assert (verb, vm_id) == ("vm_attach_disk", stored.APP)
    assert isinstance(disk, Disk)
    assert (disk.disk_id, disk.interface) == (stored.LOOSE, DiskInterface.SATA)
    assert (disk.is_read_only, disk.is_bootable) == (True, False)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"vm_id": stored.APP, "interface": "scsi"}, id="unknown-bus"),
        pytest.param({"vm_id": stored.APP}, id="no-bus"),
        pytest.param({"vm_id": NEW_ID, "interface": "sata"}, id="unknown-vm"),
        pytest.param({"interface": "sata"}, id="no-vm"),
    ],
)
def test_disk_is_not_attached_to_what_is_not_there(
    said: dict[str, str], browser: Browser
) -> None:
    assert browser.post(f"{LOOSE}/attach", **said).status_code != 200
    assert browser.fleet.orders.storage.asked == []


def test_attaching_says_when_it_is_not_done_in_time(browser: Browser) -> None:
    _say(browser, ELM, VmRun(stored.APP, ELM, VmState.UP, AT))
    browser.fleet.orders.is_held = True
    said = {"vm_id": stored.APP, "interface": "virtio"}
    browser.post(f"{LOOSE}/attach", **said)
    assert "Ask again when its order is done" in browser.get(LOOSE)
    assert len(browser.fleet.orders.storage.asked) == 1


def test_disk_is_detached_from_a_vm(browser: Browser) -> None:
    assert f"{SYSTEM}/detach" in browser.get(SYSTEM)
    assert ">app<" in browser.get(f"{SYSTEM}/detach")
    browser.post(f"{SYSTEM}/detach", vm_id=stored.APP)
    verb, vm_id, disk_id, _ = browser.fleet.orders.storage.asked[-1]
    assert (verb, vm_id, disk_id) == ("vm_detach_disk", stored.APP, stored.SYSTEM)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        pytest.param("resize", ["Disks only grow", 'value="10"'], id="resize"),
        pytest.param("move", [">data2, 60 GiB free<"], id="move"),
        pytest.param("copy", [">data1, 60 GiB free<", "system-copy"], id="copy"),
        pytest.param("edit", ["the system disk", '"no" selected>its space'], id="edit"),
        pytest.param("limit", ["Operations a second"], id="limit"),
        pytest.param(
            "delete", ["Nothing brings it back", "button danger"], id="delete"
        ),
    ],
)
def test_questions_about_a_disk_are_filled_in(
    name: str, texts: list[str], browser: Browser
) -> None:
    page = browser.get(f"{SYSTEM}/{name}")
    assert [text for text in texts if text not in page] == []


def test_a_disk_with_no_other_place_cannot_be_moved(browser: Browser) -> None:
    page = browser.get(f"/ui/disks/{stored.SCRATCH}/move")
    assert "there is none to choose" in page
    assert '<button class="button strong">Move</button>' not in page


def test_a_size_that_is_no_number_is_refused(browser: Browser) -> None:
    browser.post(f"{SYSTEM}/resize", size_gib="lots", back=SYSTEM)
    assert "must be a number of GiB" in browser.get(SYSTEM)


def _new_disk(browser: Browser, **changes: str) -> TestResponse:
    form = {
        "disk_id": NEW_ID,
        "name": "fresh",
        "storage_domain_id": stored.DATA1,
        "size_gib": "3",
        "allocation": "thin",
    }
    return browser.post("/ui/disks/new", **{**form, **changes})


def test_a_disk_is_made(browser: Browser) -> None:
    answer = _new_disk(browser)
    row = browser.fleet.mirror.view.disks[DiskId(NEW_ID)]
    assert (answer.headers["Location"], row.name, row.size_bytes) == (
        f"/ui/disks/{NEW_ID}",
        "fresh",
        3 * GiB,
    )


def test_a_refused_disk_keeps_what_was_typed(browser: Browser) -> None:
    answer = _new_disk(browser, size_gib="")
    assert (answer.status_code, 'value="fresh"' in answer.text) == (400, True)


def test_a_disk_that_is_being_made_has_a_page(browser: Browser) -> None:
    browser.fleet.orders.is_held = True
    _new_disk(browser)
    answer = browser.client.get(f"/ui/disks/{NEW_ID}")
    assert (answer.status_code, "Make disk fresh" in answer.text) == (200, True)


@pytest.mark.parametrize(
    ("disk_format", "is_shared", "text"),
    [
        pytest.param(DiskFormat.RAW, False, '"no" selected>one VM', id="raw"),
        pytest.param(DiskFormat.RAW, True, '"yes" selected>several', id="shared"),
        pytest.param(DiskFormat.QCOW2, False, "", id="qcow2"),
    ],
)
def test_sharing_is_offered_for_raw_disks(
    disk_format: DiskFormat, is_shared: bool, text: str, browser: Browser
) -> None:
    now = {"disk_format": disk_format, "is_shared": is_shared}
    _say(browser, OAK, stored.disk(stored.SYSTEM, "system", **now))
    page = browser.get(f"{SYSTEM}/edit")
    assert ('name="shared"' in page, text in page) == (bool(text), True)


def test_a_copy_of_a_disk_is_deleted_where_it_is_chosen(browser: Browser) -> None:
    assert f"{SYSTEM}/uncopy" not in browser.get(SYSTEM)
    now = {"storage_domain_ids": (stored.DATA1, stored.DATA2)}
    _say(browser, OAK, stored.disk(stored.SYSTEM, "system", **now))
    assert f"{SYSTEM}/uncopy" in browser.get(SYSTEM)
    assert ">data2<" in browser.get(f"{SYSTEM}/uncopy")
    browser.post(f"{SYSTEM}/uncopy")
    assert browser.fleet.orders.storage.asked == []
    browser.post(f"{SYSTEM}/uncopy", storage_domain_id=stored.DATA2)
    assert _asked(browser)[2] == bodies.ActOnDisk(storage_domain_id=stored.DATA2)


def test_limits_of_a_disk_are_shown(browser: Browser) -> None:
    limits = DiskQos(500, read_bytes_s=2_500_000)
    _say(browser, OAK, stored.disk(stored.SYSTEM, "system", qos=limits))
    assert "500 operations/s, 2.5 MB/s read" in browser.get(SYSTEM)
    assert 'value="2.5"' in browser.get(f"{SYSTEM}/limit")


def test_a_limit_that_is_no_number_is_refused(browser: Browser) -> None:
    browser.post(f"{SYSTEM}/limit", read_iops="lots", back=SYSTEM)
    assert "or: reads a second” must be a number" in browser.get(SYSTEM)


def test_a_damaged_disk_leads_to_its_repair(browser: Browser) -> None:
    _say(browser, OAK, stored.disk(stored.SYSTEM, "system", state=DiskState.ILLEGAL))
    assert f"{DATA1}/check" in browser.get(SYSTEM)


def test_a_disk_grows_under_the_guest_that_runs_with_it(browser: Browser) -> None:
    mirror = browser.fleet.mirror
    vm = mirror.view.vms[stored.APP]
    up = VmState.UP
    mirror.put_vm(replace(vm, state=up, last_state=up, node_id=ELM))
    assert browser.post(f"{SYSTEM}/resize", size_gib="20").status_code == 303
    found = browser.fleet.orders.storage.asked
    asked = [(verb, request.size_bytes, node) for verb, _, request, node in found]
    verb, size_bytes = "vm_resize_disk", 20 * GiB
    assert asked == [(verb, size_bytes, ELM), (verb, size_bytes, OAK)]
