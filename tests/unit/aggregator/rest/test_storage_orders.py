"""Tests of what is ordered for storage domains: made, taken, attached, removed."""

from dataclasses import replace
from typing import Any

import pytest
from lxml import etree

from node.model import storage_requests as requests
from node.model.ids import StorageDomainId
from node.model.storage import (
    Connection,
    DiskFormat,
    DomainClass,
    DomainState,
    DomainType,
)
from tests.fakes import fleet_storage, services
from tests.fakes.fleet_storage import (
    APP,
    DATA1,
    DATA2,
    ISO1,
    LOOSE,
    NFS,
    OAK_LOCAL,
    OAK_POOL,
    SCRATCH,
    SHARED,
    SPARE,
)
from tests.fakes.services import ELM, OAK
from tests.fakes.storage_orders import forget, say
from tests.unit.aggregator.rest.client import Client

OLD = StorageDomainId("12345678-1234-4234-8234-123456789abc")
PLACE = (
    "<storage><type>nfs</type><address>nas.test</address><path>/new</path></storage>"
)
BASIC = f"<name>new</name><type>data</type><host><name>elm</name></host>{PLACE}"


def _body(inside: str, of: str = "") -> str:
    return f"<storage_domain{of}>{inside}</storage_domain>"


def _storage(inside: str) -> str:
    return BASIC.replace(PLACE, f"<storage>{inside}</storage>")


def _asked(client: Client) -> list[tuple[str, str, Any, Any]]:
    return client.fleet.orders.storage.asked


def _data_center(client: Client) -> str:
    (found,) = client.get("/datacenters")["data_center"]
    return f"/datacenters/{found['id']}"


# making and taking


@pytest.mark.parametrize(
    ("inside", "connection"),
    [
        (BASIC, Connection(DomainType.NFS, "/new", "nas.test")),
        (
            _storage(
                "<type>nfs</type><address>a</address><path>/b</path>"
                "<nfs_version>v4_1</nfs_version><mount_options>x</mount_options>"
                "<nfs_retrans>5</nfs_retrans><nfs_timeo>60</nfs_timeo>"
            ),
            Connection(
                DomainType.NFS,
                "/b",
                "a",
                nfs_version="4.1",
                options="x,retrans=5,timeo=60",
            ),
        ),
        (
            _storage(
                "<type>posixfs</type><path>/dev/sdb</path><vfs_type>xfs</vfs_type>"
                "<nfs_version>v3</nfs_version>"
            ),
            Connection(DomainType.POSIXFS, "/dev/sdb", file_system="xfs"),
        ),
        (
            _storage("<type>posixfs</type><address>a</address><path>/b</path>"),
            Connection(DomainType.POSIXFS, "a:/b"),
        ),
        (
            _storage("<type>localfs</type><path>/srv</path>"),
            Connection(DomainType.LOCALFS, "/srv"),
        ),
    ],
    ids=["nfs", "nfs-options", "posix", "posix-address", "local"],
)
def test_a_new_one_is_ordered_where_the_request_says(
    stored: Client, inside: str, connection: Connection
) -> None:
    reply = stored.ask("POST", "/storagedomains", _body(inside))
    assert reply.status_code == 201, reply.text
    made = etree.fromstring(reply.data)
    assert reply.headers["Location"] == made.get("href")
    assert made.findtext("status") == "unattached"
    ((verb, object_id, request, node_id),) = _asked(stored)
    assert (verb, object_id, node_id) == ("storage_domain_create", made.get("id"), ELM)
    assert request == requests.CreateStorageDomain(
        StorageDomainId(object_id), "new", connection
    )


def test_a_new_one_has_what_the_request_says(stored: Client) -> None:
    more = (
        "<description>d</description><block_size>4096</block_size>"
        "<wipe_after_delete>true</wipe_after_delete>"
        "<storage_format>v1</storage_format>"
    )
    inside = BASIC.replace(">data<", ">iso<") + more
    stored.ask("POST", "/storagedomains", _body(inside))
    ((_, object_id, request, _),) = _asked(stored)
    assert request == requests.CreateStorageDomain(
        StorageDomainId(object_id),
        "new",
        Connection(DomainType.NFS, "/new", "nas.test"),
        DomainClass.ISO,
        "d",
        4096,
        True,
    )


@pytest.mark.parametrize(
    ("of", "inside", "wanted"),
    [
        (f' id="{OLD}"', BASIC, OLD),
        ("", BASIC + "<import>true</import>", SPARE),
        ("", BASIC.replace("<name>new</name>", ""), SPARE),
    ],
    ids=["id", "import", "nameless"],
)
def test_one_that_exists_is_taken(
    stored: Client, of: str, inside: str, wanted: StorageDomainId
) -> None:
    stored.fleet.node.found = (fleet_storage.domain(OAK, SPARE).storage_domain,)
    forget(stored.fleet.mirror, OAK, fleet_storage.domain(OAK, SPARE))
    reply = stored.ask("POST", "/storagedomains", _body(inside, of))
    assert reply.status_code == 201, reply.text
    ((verb, object_id, request, node_id),) = _asked(stored)
    connection = Connection(DomainType.NFS, "/new", "nas.test")
    assert (verb, object_id, node_id) == ("storage_domain_import", wanted, ELM)
    assert request == requests.ImportStorageDomain(connection, wanted)
    assert etree.fromstring(reply.data).findtext("name") == "imported"


@pytest.mark.parametrize("count", [0, 2])
def test_one_is_taken_only_if_it_is_clear_which(stored: Client, count: int) -> None:
    stored.fleet.node.found = (fleet_storage.domain(OAK, SPARE).storage_domain,) * count
    inside = BASIC + "<import>true</import>"
    reply = stored.ask("POST", "/storagedomains", _body(inside))
    text = f"{count} storage domains lie there, as elm sees it"
    assert (reply.status_code, text in reply.text) == (400, True)
    assert _asked(stored) == []


def test_one_that_takes_long_is_told_so(stored: Client) -> None:
    stored.fleet.orders.is_held = True
    reply = stored.ask("POST", "/storagedomains", _body(BASIC))
    # Clients that are told of a conflict ask again, and would make another one.
    assert (reply.status_code, "is not ready" in reply.text) == (500, True)


@pytest.mark.parametrize(
    ("inside", "status", "text"),
    [
        (BASIC.replace("<host><name>elm</name></host>", ""), 400, "[host.id|name]"),
        (BASIC.replace("elm", "nobody"), 400, "there is no host nobody"),
        (BASIC.replace("<type>data</type>", ""), 400, "StorageDomain [type] required"),
        (BASIC.replace(">data<", ">tape<"), 400, "data, iso or export"),
        (BASIC.replace(PLACE, ""), 400, "StorageDomain [storage.type] required"),
        (_storage("<type>nfs</type>"), 400, "HostStorage [address, path] required"),
        (_storage("<type>posixfs</type>"), 400, "HostStorage [path] required"),
        (_storage("<type>floppy</type>"), 400, "no storage type"),
        (_storage("<type>iscsi</type>"), 501, "storage of type iscsi"),
        (_storage("<type>fcp</type>"), 501, "storage of type fcp"),
        (
            BASIC.replace("</path>", "</path><nfs_version>v9</nfs_version>"),
            400,
            "no NFS version",
        ),
        (BASIC.replace(">new<", f">{'n' * 51}<"), 400, "longer than 50"),
        (BASIC.replace(">new<", ">DATA1<"), 409, "name DATA1 is already in use"),
        (BASIC + "<storage_format>v3</storage_format>", 400, "must be v5"),
        (BASIC.replace(PLACE, '<storage id="1"/>'), 404, "no storage connection"),
    ],
    ids=[
        "no-host",
        "unknown-host",
        "no-type",
        "type",
        "no-storage",
        "no-address",
        "no-path",
        "storage-type",
        "iscsi",
        "fcp",
        "nfs-version",
        "long-name",
        "name-taken",
        "format",
        "connection",
    ],
)
def test_a_new_one_is_refused(
    stored: Client, inside: str, status: int, text: str
) -> None:
    reply = stored.ask("POST", "/storagedomains", _body(inside))
    assert (reply.status_code, text in reply.text) == (status, True), reply.text
    assert _asked(stored) == []


# connections


def test_a_connection_is_kept_until_something_lies_there(stored: Client) -> None:
    body = (
        "<storage_connection><type>nfs</type><address>nas.test</address>"
        "<path>/new</path></storage_connection>"
    )
    made = etree.fromstring(stored.ask("POST", "/storageconnections", body).data)
    connection_id = made.get("id")
    path = f"/storageconnections/{connection_id}"
    changed = stored.ask(
        "PUT", path, "<storage_connection><path>/other</path></storage_connection>"
    )
    assert etree.fromstring(changed.data).findtext("address") == "nas.test"
    inside = BASIC.replace(PLACE, f'<storage id="{connection_id}"/>')
    reply = stored.ask("POST", "/storagedomains", _body(inside))
    assert reply.status_code == 201, reply.text
    ((_, _, request, _),) = _asked(stored)
    assert request.connection == Connection(DomainType.NFS, "/other", "nas.test")
    domain_id = etree.fromstring(reply.data).get("id")
    below = stored.get(f"/storagedomains/{domain_id}/storageconnections")
    assert [each["id"] for each in below["storage_connection"]] == [connection_id]
    refused = stored.ask("DELETE", path)
    assert (refused.status_code, "used by the following" in refused.text) == (409, True)


def test_a_connection_that_nothing_uses_is_removed(stored: Client) -> None:
    body = (
        "<storage_connection><type>localfs</type><path>/srv</path></storage_connection>"
    )
    made = etree.fromstring(stored.ask("POST", "/storageconnections", body).data)
    path = f"/storageconnections/{made.get('id')}"
    assert stored.get(path)["path"] == "/srv"
    assert stored.ask("DELETE", path).status_code == 200
    assert stored.ask("GET", path).status_code == 404


def test_a_connection_is_added_once(stored: Client) -> None:
    body = (
        f"<storage_connection><type>nfs</type><address>{NFS.address}</address>"
        f"<path>{NFS.path}</path><nfs_version>v4_2</nfs_version>"
        "<mount_options>noatime</mount_options></storage_connection>"
    )
    reply = stored.ask("POST", "/storageconnections", body)
    assert (reply.status_code, "already exists" in reply.text) == (409, True)


def test_the_connection_of_what_rests_is_changed_and_keeps_its_id(
    stored: Client,
) -> None:
    (found,) = stored.get(f"/storagedomains/{ISO1}/storageconnections")[
        "storage_connection"
    ]
    path = f"/storageconnections/{found['id']}"
    body = "<storage_connection><path>/moved</path></storage_connection>"
    reply = stored.ask("PUT", path, body)
    assert reply.status_code == 200, reply.text
    assert stored.get(path)["path"] == "/moved"
    ((verb, object_id, request, _),) = _asked(stored)
    assert (verb, object_id) == ("storage_domain_change", ISO1)
    connection = request.connection
    assert request == requests.ChangeStorageDomain(connection=connection)
    assert (connection.path, connection.address) == ("/moved", found["address"])
    (now,) = stored.get(f"/storagedomains/{ISO1}/storageconnections")[
        "storage_connection"
    ]
    assert now["id"] == found["id"]


@pytest.mark.parametrize(
    ("inside", "asked"),
    [
        pytest.param("<name>gold</name>", {"name": "gold"}, id="name"),
        pytest.param("<description>d</description>", {"description": "d"}, id="text"),
        pytest.param(
            "<name>data1</name><wipe_after_delete>true</wipe_after_delete>",
            {"wipe_after_delete": True},
            id="wiped",
        ),
    ],
)
def test_one_is_changed(stored: Client, inside: str, asked: dict[str, object]) -> None:
    path = f"/storagedomains/{DATA1}"
    body = f"<storage_domain>{inside}</storage_domain>"
    reply = stored.ask("PUT", path, body)
    assert reply.status_code == 200, reply.text
    ((verb, object_id, request, _),) = _asked(stored)
    assert (verb, object_id) == ("storage_domain_change", DATA1)
    assert request == requests.ChangeStorageDomain(**asked)  # type: ignore[arg-type]  # by name
    now = stored.get(path)
    for name, value in asked.items():
        assert now[name] == (str(value).lower() if value is True else value)


def test_the_connection_of_a_storage_domain_in_use_stays(stored: Client) -> None:
    (found,) = stored.get(f"/storagedomains/{DATA1}/storageconnections")[
        "storage_connection"
    ]
    path = f"/storageconnections/{found['id']}"
    body = "<storage_connection><path>/x</path></storage_connection>"
    for method, place in (
        ("PUT", path),
        ("DELETE", path),
        ("POST", f"/storagedomains/{DATA1}/storageconnections"),
        ("DELETE", f"/storagedomains/{DATA1}{path}"),
    ):
        assert stored.ask(method, place, body).status_code in (409, 501)


# attaching


@pytest.mark.parametrize(
    "inside", [f' id="{SPARE}"/', "><name>spare</name></storage_domain"]
)
def test_one_is_attached_and_active(stored: Client, inside: str) -> None:
    place = f"{_data_center(stored)}/storagedomains"
    reply = stored.ask("POST", place, f"<storage_domain{inside}>")
    assert reply.status_code == 202, reply.text
    assert stored.get(f"{place}/{SPARE}")["status"] == "active"
    assert etree.fromstring(reply.data).get("href", "").endswith(f"{place}/{SPARE}")


def test_a_folder_of_a_host_is_attached_to_that_hosts_pool(stored: Client) -> None:
    document = fleet_storage.domain(OAK, SPARE)
    folder = Connection(DomainType.LOCALFS, "/srv")
    named = replace(document.storage_domain, connection=folder)
    say(stored.fleet.mirror, OAK, replace(document, storage_domain=named))
    place = f"{_data_center(stored)}/storagedomains"
    reply = stored.ask("POST", place, f'<storage_domain id="{SPARE}"/>')
    assert reply.status_code == 202, reply.text
    attach, activate = _asked(stored)
    assert attach[2] == requests.AttachStorageDomain(OAK_POOL, folder)
    assert activate[:2] == ("storage_domain_activate", SPARE)


@pytest.mark.parametrize(
    ("inside", "status", "text"),
    [
        (f' id="{DATA1}"/', 409, "attached already"),
        ("/", 400, "StorageDomain [id|name] required"),
        (' id="x"/', 400, "there is no storage domain x"),
    ],
    ids=["attached", "nameless", "unknown"],
)
def test_attaching_is_refused(
    stored: Client, inside: str, status: int, text: str
) -> None:
    place = f"{_data_center(stored)}/storagedomains"
    reply = stored.ask("POST", place, f"<storage_domain{inside}>")
    assert (reply.status_code, text in reply.text) == (status, True), reply.text


@pytest.mark.parametrize(
    ("storage_domain_id", "act", "body", "verb", "is_forced", "status"),
    [
        (DATA2, "deactivate", "", "storage_domain_maintain", False, "maintenance"),
        (
            DATA2,
            "deactivate",
            "<action><force>true</force></action>",
            "storage_domain_maintain",
            True,
            "maintenance",
        ),
        (ISO1, "activate", "<action/>", "storage_domain_activate", False, "active"),
    ],
)
def test_one_is_turned(
    stored: Client,
    storage_domain_id: str,
    act: str,
    body: str,
    verb: str,
    is_forced: bool,
    status: str,
) -> None:
    place = f"{_data_center(stored)}/storagedomains/{storage_domain_id}"
    reply = stored.ask("POST", f"{place}/{act}", body)
    assert etree.fromstring(reply.data).findtext("status") == "complete"
    assert stored.get(place)["status"] == status
    ((asked, object_id, request, _),) = _asked(stored)
    assert (asked, object_id) == (verb, storage_domain_id)
    assert request == requests.ActOnStorageDomain(is_forced=is_forced)


def test_one_in_maintenance_is_detached_and_removed(stored: Client) -> None:
    place = f"{_data_center(stored)}/storagedomains/{ISO1}"
    assert stored.ask("DELETE", place).status_code == 200
    assert stored.ask("GET", place).status_code == 404
    assert stored.get(f"/storagedomains/{ISO1}")["status"] == "unattached"
    removal = f"/storagedomains/{ISO1}?format=true&host=elm"
    assert stored.ask("DELETE", removal).status_code == 200
    assert stored.ask("GET", f"/storagedomains/{ISO1}").status_code == 404
    _, first, second = _asked(stored)
    assert first[2:] == (requests.RemoveStorageDomain(is_formatted=True), ELM)
    # The other one only forgets what is not there any more.
    assert second[2:] == (requests.RemoveStorageDomain(is_formatted=False), OAK)


def test_one_is_removed_by_a_host_that_knows_it(stored: Client) -> None:
    reply = stored.ask("DELETE", f"/storagedomains/{SPARE}?format=true&host=elm")
    assert reply.status_code == 200, reply.text
    ((_, _, request, node_id),) = _asked(stored)
    assert (request.is_formatted, node_id) == (True, OAK)
    assert stored.ask("GET", f"/storagedomains/{SPARE}").status_code == 404


def test_what_was_detached_is_destroyed_by_who_keeps_it(stored: Client) -> None:
    """Elm has not told yet that it forgot the storage domain: oak detached it."""
    kept = replace(fleet_storage.domain(OAK, DATA2).storage_domain, pool_id=None)
    document = replace(
        fleet_storage.domain(OAK, DATA2),
        storage_domain=kept,
        state=DomainState.UNATTACHED,
        mark=fleet_storage.MARK,
    )
    say(stored.fleet.mirror, OAK, document)
    reply = stored.ask("DELETE", f"/storagedomains/{DATA2}?format=true&host=elm")
    assert reply.status_code == 200, reply.text
    ((_, _, request, node_id),) = _asked(stored)
    assert (request.is_formatted, node_id) == (True, OAK)


def test_one_is_forgotten_although_it_is_attached(stored: Client) -> None:
    reply = stored.ask("DELETE", f"/storagedomains/{DATA2}?destroy=true")
    assert reply.status_code == 200, reply.text
    detach, *removes = _asked(stored)
    assert detach[2] == requests.ActOnStorageDomain(is_forced=True)
    forget = requests.RemoveStorageDomain(is_formatted=False)
    assert [(each[2], each[3]) for each in removes] == [(forget, OAK), (forget, ELM)]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        (f"/storagedomains/{DATA2}?format=true&host=oak", 409, "is attached to a"),
        (f"/storagedomains/{SPARE}?host=nobody", 400, "there is no host nobody"),
        (f"/storagedomains/{OLD}?host=oak", 404, "there is no storage domain"),
    ],
    ids=["attached", "host", "unknown"],
)
def test_removing_is_refused(stored: Client, path: str, status: int, text: str) -> None:
    reply = stored.ask("DELETE", path)
    assert (reply.status_code, text in reply.text) == (status, True), reply.text
    assert _asked(stored) == []


def test_an_active_one_is_not_detached_unless_forced(stored: Client) -> None:
    place = f"{_data_center(stored)}/storagedomains/{DATA2}"
    reply = stored.ask("DELETE", place)
    assert (reply.status_code, "not in maintenance" in reply.text) == (409, True)
    assert stored.ask("DELETE", f"{place}?force=true").status_code == 200


def test_what_the_manager_refuses_reaches_the_client(stored: Client) -> None:
    stored.fleet.orders.storage.refusal = services.VmRuns("a VM runs from it")
    place = f"{_data_center(stored)}/storagedomains/{DATA2}"
    reply = stored.ask("POST", f"{place}/deactivate")
    assert (reply.status_code, "a VM runs from it" in reply.text) == (409, True)


# the rest


@pytest.mark.parametrize(
    ("inside", "status"),
    [
        ("<name>data1</name><comment></comment>", 200),
        ("<wipe_after_delete>false</wipe_after_delete>", 200),
        ("<name>data2</name>", 409),
    ],
)
def test_an_update_is_answered(stored: Client, inside: str, status: int) -> None:
    reply = stored.ask("PUT", f"/storagedomains/{DATA1}", _body(inside))
    assert reply.status_code == status, reply.text


@pytest.mark.parametrize(
    ("storage_domain_id", "expected"), [(DATA1, "true"), (SPARE, "false")]
)
def test_isattached_says_so(
    stored: Client, storage_domain_id: str, expected: str
) -> None:
    reply = stored.ask("POST", f"/storagedomains/{storage_domain_id}/isattached")
    assert etree.fromstring(reply.data).findtext("is_attached") == expected


def test_updateovfstore_is_ordered(stored: Client) -> None:
    reply = stored.ask("POST", f"/storagedomains/{DATA1}/updateovfstore")
    assert reply.status_code == 200
    ((verb, object_id, _, _),) = _asked(stored)
    assert (verb, object_id) == ("storage_domain_write_ovf", DATA1)


@pytest.mark.parametrize("act", ["refreshluns", "reduceluns"])
def test_other_acts_say_that_they_are_not_supported(stored: Client, act: str) -> None:
    assert stored.ask("POST", f"/storagedomains/{DATA1}/{act}").status_code == 501


def test_a_disk_is_made_and_removed_below_its_storage_domain(stored: Client) -> None:
    place = f"/storagedomains/{DATA2}/disks"
    body = (
        "<disk><name>d</name><format>raw</format>"
        "<provisioned_size>1024</provisioned_size></disk>"
    )
    made = etree.fromstring(stored.ask("POST", place, body).data)
    ((_, disk_id, request, _),) = _asked(stored)
    assert (request.storage_domain_id, request.disk_format) == (DATA2, DiskFormat.RAW)
    assert made.get("id") == disk_id
    assert stored.ask("DELETE", f"{place}/{disk_id}").status_code == 200
    assert stored.get(place) == {}
    assert stored.ask("DELETE", f"{place}/{LOOSE}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("disks?unregistered=true", f'<disk id="{LOOSE}"/>', 200),
        ("disks?unregistered=true", f'<disk id="{SCRATCH}"/>', 404),
        (f"vms/{APP}/register", "<action/>", 200),
        (f"vms/{OLD}/register", "<action/>", 404),
    ],
    ids=["disk", "disk-elsewhere", "vm", "vm-unknown"],
)
def test_what_lies_there_is_registered_already(
    stored: Client, path: str, body: str, status: int
) -> None:
    reply = stored.ask("POST", f"/storagedomains/{DATA1}/{path}", body)
    assert reply.status_code == status, reply.text
    assert _asked(stored) == []


def test_disk_is_registered_under_another_name(stored: Client) -> None:
    body = f'<disk id="{LOOSE}"><alias>found</alias><format>raw</format></disk>'
    place = f"/storagedomains/{DATA1}/disks;unregistered"
    reply = stored.ask("POST", place, body)
    assert reply.status_code == 200, reply.text
    ((verb, disk_id, request, _),) = _asked(stored)
    assert (verb, disk_id) == ("disk_change", LOOSE)
    assert request == requests.ChangeDisk("found")
    assert etree.fromstring(reply.data).findtext("name") == "found"


def test_the_master_moves_within_its_pool(stored: Client) -> None:
    body = f'<action><storage_domain id="{DATA2}"/></action>'
    place = f"{_data_center(stored)}/setmaster"
    assert stored.ask("POST", place, body).status_code == 200
    ((verb, object_id, request, _),) = _asked(stored)
    assert (verb, object_id) == ("pool_move_master", SHARED)
    assert request == requests.MoveMaster(DATA2)
    for inside, status in ((f' id="{OAK_LOCAL}"/', 400), ("/", 400)):
        body = f"<action><storage_domain{inside}></action>"
        assert stored.ask("POST", place, body).status_code == status


def test_finished_tasks_leave_nothing_to_clean(stored: Client) -> None:
    place = f"{_data_center(stored)}/cleanfinishedtasks"
    assert stored.ask("POST", place).status_code == 200
    assert _asked(stored) == []


def test_a_domain_of_another_data_center_is_not_found_there(stored: Client) -> None:
    document = replace(fleet_storage.domain(OAK, SPARE), state=DomainState.MAINTENANCE)
    say(stored.fleet.mirror, OAK, document)
    place = f"{_data_center(stored)}/storagedomains/{SPARE}"
    assert stored.ask("POST", f"{place}/activate").status_code == 404
    assert stored.ask("GET", place).status_code == 404
