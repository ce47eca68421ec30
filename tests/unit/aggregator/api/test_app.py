"""The aggregator's own API: each verb over a fleet of fakes."""

from dataclasses import dataclass
from typing import Any

import pytest
from werkzeug.test import TestResponse

from aggregator.access.identity import ADMINISTRATOR
from aggregator.api import app
from node.log import Secret
from node.model.ids import JobId
from node.model.vm import VmRun, VmState
from tests.fakes import fleet_storage
from tests.fakes import services as fakes
from tests.fakes.storage_orders import say

FIR = "44444444-4444-4444-8444-444444444444"
NEW = "12345678-1234-4234-8234-123456789abc"


@dataclass(frozen=True, slots=True)
class Caller:
    fleet: fakes.Fleet
    http: Any
    token: str

    def ask(self, method: str, path: str, body: object = None) -> TestResponse:
        headers = {
            "Authorization": f"Bearer {self.token}",
            "X-Correlation-Id": "c-1",
            "X-Real-IP": "192.0.2.9",
        }
        reply: TestResponse = self.http.open(
            path, method=method, json=body, headers=headers
        )
        return reply

    def get(self, path: str) -> Any:
        reply = self.ask("GET", path)
        assert reply.status_code == 200, reply.text
        return reply.json

    def post(self, path: str, body: object, status: int = 202) -> Any:
        reply = self.ask("POST", path, body)
        assert reply.status_code == status, reply.text
        return reply.json


@pytest.fixture
def caller() -> Caller:
    fleet = fakes.make_fleet()
    session = fleet.access.login(ADMINISTRATOR, Secret(fakes.PASSWORD), "192.0.2.9")
    client = app.create(fleet.services).test_client()
    return Caller(fleet, client, session.token.reveal())


def test_login_gives_a_token_that_is_believed(caller: Caller) -> None:
    body = {"user": ADMINISTRATOR, "password": fakes.PASSWORD}
    given = caller.http.post("/v1/login", json=body).json
    headers = {"Authorization": f"Bearer {given['token']}"}
    assert caller.http.get("/v1/status", headers=headers).status_code == 200
    assert given["user"] == ADMINISTRATOR


def test_login_is_noted_with_the_address_that_nginx_saw(caller: Caller) -> None:
    caller.post("/v1/login", {"user": "eve", "password": "x"}, 403)
    event = caller.fleet.events.list(maximum=1)[0]
    assert event.code == "user_login_failed"
    assert event.fields["address"] == "192.0.2.9"


def test_status_counts_the_fleet(caller: Caller) -> None:
    status = caller.get("/v1/status")
    assert (status["nodes"], status["nodes_up"]) == (3, 2)
    assert (status["vms"], status["vms_up"], status["candidates"]) == (5, 1, 2)


def test_nodes_are_listed_by_name_with_candidates(caller: Caller) -> None:
    listed = caller.get("/v1/nodes")
    assert [node["name"] for node in listed["nodes"]] == ["ash", "elm", "oak"]
    assert listed["nodes"][0]["reason"]["code"] == "node_unreachable"
    assert [each["name"] for each in listed["candidates"]] == ["fir", "yew"]


@pytest.mark.parametrize(
    "whom", [{"node_id": FIR}, {"address": "192.0.2.4"}], ids=["id", "address"]
)
def test_admit_makes_a_candidate_a_member(caller: Caller, whom: dict[str, str]) -> None:
    body = {"fingerprint": "ab" * 32, **whom}
    node = caller.post("/v1/nodes/admit", body, 200)
    assert (node["name"], node["state"]) == ("fir", "connecting")


def test_admit_refuses_another_fingerprint(caller: Caller) -> None:
    body = {"fingerprint": "00" * 32, "node_id": FIR}
    error = caller.post("/v1/nodes/admit", body, 400)["error"]
    assert error["code"] == "fingerprint_differs"


def test_remove_takes_a_node_out(caller: Caller) -> None:
    listed = caller.post(f"/v1/nodes/{fakes.ASH}/remove", {}, 200)
    assert [node["name"] for node in listed["nodes"]] == ["elm", "oak"]


@pytest.mark.parametrize(
    ("query", "names", "total"),
    [
        pytest.param("", ["build", "db", "old", "web1", "web2"], 5, id="all"),
        pytest.param("?max=2", ["build", "db"], 5, id="max"),
        pytest.param("?max=0", [], 5, id="none"),
        pytest.param("?search=WEB", ["web1", "web2"], 2, id="name"),
        pytest.param("?search=paused", ["db"], 1, id="state"),
        pytest.param("?search=10.0.0.11", ["web1"], 1, id="address"),
        pytest.param("?search=%25", [], 0, id="nothing"),
    ],
)
def test_vms_are_listed_by_name(
    caller: Caller, query: str, names: list[str], total: int
) -> None:
    listed = caller.get(f"/v1/vms{query}")
    assert [vm["name"] for vm in listed.get("vms", [])] == names
    assert listed["total"] == total


def test_vm_is_shown_with_its_run_and_figures(caller: Caller) -> None:
    shown = caller.get(f"/v1/vms/{fakes.WEB1}")
    assert (shown["node"], shown["state"]) == ("oak", "up")
    assert shown["entry"]["run"]["guest"]["host_name"] == "web1.test"
    assert shown["stats"]["cpu_percent"] == 20.0


def test_explain_says_where_and_why_not(caller: Caller) -> None:
    body = {"name": "new", "image": "fedora-43"}
    placed = caller.post("/v1/vms/explain", body, 200)
    assert placed["chosen"] == "oak"
    verdicts = {each["node"]: each["is_accepted"] for each in placed["verdicts"]}
    assert verdicts == {"ash": False, "elm": False, "oak": True}


def test_explain_says_when_nothing_fits(caller: Caller) -> None:
    body = {"name": "new", "memory_bytes": 2**50}
    assert caller.post("/v1/vms/explain", body, 200)["chosen"] is None


def test_create_completes_what_a_person_asks_for(caller: Caller) -> None:
    body = {"name": "new", "vm_id": NEW, "image": "debian-12", "network": "skerry"}
    order = caller.post("/v1/vms", body)
    assert (order["verb"], order["name"], order["vm_id"]) == ("vm_create", "new", NEW)
    spec = caller.get(f"/v1/vms/{NEW}")["entry"]["vm"]["spec"]
    assert spec["disks"][0]["is_bootable"]
    assert spec["nics"][0]["mac"].startswith("56:6f:")


@pytest.mark.parametrize(
    ("vm_id", "act", "body", "state"),
    [
        pytest.param(fakes.WEB2, "start", {}, VmState.UP, id="start"),
        pytest.param(
            fakes.WEB2, "start", {"is_paused": True}, VmState.PAUSED, id="paused"
        ),
        pytest.param(fakes.WEB1, "stop", {"deadline_s": 5}, VmState.DOWN, id="stop"),
        pytest.param(fakes.WEB1, "pause", {}, VmState.PAUSED, id="pause"),
        pytest.param(fakes.WEB1, "suspend", {}, VmState.DOWN, id="suspend"),
        pytest.param(fakes.DB, "resume", {}, VmState.UP, id="resume"),
        pytest.param(fakes.WEB1, "reset", {}, VmState.UP, id="reset"),
    ],
)
def test_act_is_an_order_in_the_name_of_its_user(
    caller: Caller, vm_id: str, act: str, body: dict[str, Any], state: VmState
) -> None:
    order = caller.post(f"/v1/vms/{vm_id}/{act}", body)
    assert (order["verb"], order["user"]) == (f"vm_{act}", ADMINISTRATOR)
    assert caller.get(f"/v1/vms/{vm_id}")["state"] == state
    kept = caller.fleet.orders.get(JobId(order["order_id"]))
    assert kept.correlation_id == "c-1"


def test_delete_removes_a_vm(caller: Caller) -> None:
    caller.post(f"/v1/vms/{fakes.WEB2}/delete", {})
    assert caller.ask("GET", f"/v1/vms/{fakes.WEB2}").status_code == 404


def test_orders_are_listed_and_shown(caller: Caller) -> None:
    order = caller.post(f"/v1/vms/{fakes.WEB2}/start", {})
    assert caller.get("/v1/orders")["orders"] == [order]
    assert caller.get(f"/v1/orders/{order['order_id']}?wait_s=1") == order


def test_events_are_listed_with_their_texts(caller: Caller) -> None:
    events = caller.get("/v1/events?max=2")["events"]
    assert [event["code"] for event in events] == ["user_logged_in", "node_unreachable"]
    assert "ash" in events[1]["text"]
    assert events[1]["severity"] == "error"


def test_events_since_a_number_are_the_newer_ones(caller: Caller) -> None:
    last = caller.get("/v1/events")["events"][0]["number"]
    caller.post(f"/v1/vms/{fakes.WEB2}/start", {})
    events = caller.get(f"/v1/events?since={last}&wait_s=1")["events"]
    assert [event["code"] for event in events] == ["vm_started"]
    assert events[0]["correlation_id"] == "c-1"


def test_picture_and_serial_line_come_as_they_are(caller: Caller) -> None:
    picture = caller.ask("GET", f"/v1/vms/{fakes.WEB1}/screenshot")
    assert (picture.content_type, picture.data) == ("image/png", fakes.PNG)
    serial = caller.ask("GET", f"/v1/vms/{fakes.WEB1}/serial?tail_bytes=4")
    assert (serial.content_type, serial.data) == (
        "text/plain; charset=utf-8",
        b": \r\n",
    )


def test_reader_may_not_change_anything(caller: Caller) -> None:
    fleet = caller.fleet.database.records("fleet")
    for record in fleet.list():
        if record.id.startswith("permission/"):
            fleet.delete(record.id)
    assert caller.ask("GET", "/v1/vms").status_code == 403
    reply = caller.ask("POST", f"/v1/vms/{fakes.WEB2}/start", {})
    assert reply.status_code == 403
    assert caller.fleet.mirror.view.vms[fakes.WEB2].state is VmState.DOWN


def test_transfer_goes_to_the_manager_and_its_list_hides_addresses() -> None:
    fleet = fleet_storage.make_fleet()
    session = fleet.access.login(ADMINISTRATOR, Secret(fakes.PASSWORD), "192.0.2.9")
    http = app.create(fleet.services).test_client()
    caller = Caller(fleet, http, session.token.reveal())
    body = {
        "transfer_id": NEW,
        "disk_id": fleet_storage.LOOSE,
        "direction": "upload",
    }
    made = caller.post("/v1/transfers", body, 201)
    assert made["phase"] == "initializing"
    assert caller.get(f"/v1/transfers/{NEW}")["url"].startswith("https://")
    (listed,) = caller.get("/v1/transfers")["transfers"]
    assert listed["transfer_id"] == NEW
    assert not listed.get("url")
    for name in ("extend", "pause", "resume", "finalize"):
        caller.post(f"/v1/transfers/{NEW}/{name}", {}, 200)
    asked = [verb for verb, _ in fleet.node.transfers.asked]
    assert asked[0] == "transfer_create"
    assert asked[-1] == "transfer_finalize"


def test_detach_stops_at_a_guest_that_does_not_let_its_disk_go() -> None:
    fleet = fleet_storage.make_fleet()
    session = fleet.access.login(ADMINISTRATOR, Secret(fakes.PASSWORD), "192.0.2.9")
    http = app.create(fleet.services).test_client()
    caller = Caller(fleet, http, session.token.reveal())
    run = VmRun(fleet_storage.APP, fakes.ELM, VmState.UP, fakes.AT)
    say(fleet.mirror, fakes.ELM, run)
    fleet.orders.is_held = True
    path = f"/v1/vms/{fleet_storage.APP}/detach-disk"
    reply = caller.ask("POST", path, {"disk_id": fleet_storage.SYSTEM})
    assert reply.status_code == 423
    assert "disk_change_under_way" in reply.text
    asked = [node_id for *_, node_id in fleet.orders.storage.asked]
    assert asked == [fakes.ELM]


# custom properties

_PINCPU = {"level": "vm", "name": "pincpu", "pattern": "[0-9-]+", "help": "Where."}
_PROPERTIES = f"/v1/vms/{fakes.WEB1}/properties"


def _given(value: str, **more: object) -> dict[str, object]:
    return {"custom_properties": [{"name": "pincpu", "value": value}], **more}


def test_properties_are_declared_listed_and_removed(caller: Caller) -> None:
    made = caller.post("/v1/custom-properties", _PINCPU, 200)
    listed = caller.get("/v1/custom-properties")["properties"]
    assert made in listed
    assert made["help"] == "Where."
    assert [each["name"] for each in listed if each.get("is_predefined")][:2] == [
        "extra_cpu_flags",
        "hugepages",
    ]
    gone = {"level": "vm", "name": "pincpu"}
    assert (
        made not in caller.post("/v1/custom-properties/remove", gone, 200)["properties"]
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "PATH"}, "bad_custom_property"),
        ({"pattern": "("}, "bad_property_pattern"),
        ({"level": "host"}, "malformed"),
    ],
)
def test_declaration_that_cannot_be_is_refused(
    caller: Caller, changes: dict[str, str], code: str
) -> None:
    reply = caller.ask("POST", "/v1/custom-properties", _PINCPU | changes)
    assert reply.status_code == 400
    assert f'"code":"{code}"' in reply.text


def test_vm_gets_properties_that_are_declared(caller: Caller) -> None:
    caller.post("/v1/custom-properties", _PINCPU, 200)
    order = caller.post(_PROPERTIES, _given("1-4"))
    assert (order["verb"], order["state"]) == ("vm_set_properties", "done")
    spec = caller.get(f"/v1/vms/{fakes.WEB1}")["entry"]["vm"]["spec"]
    assert spec["custom_properties"] == _given("1-4")["custom_properties"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param(_given("all"), "pincpu cannot be 'all'", id="value"),
        pytest.param(_given("1", device_id=NEW), "no card or disk", id="device"),
        pytest.param(
            {"custom_properties": [{"name": "x", "value": "1"}]},
            "there is no custom property x of a VM",
            id="undeclared",
        ),
    ],
)
def test_properties_of_a_vm_are_checked(
    caller: Caller, body: dict[str, object], told: str
) -> None:
    caller.post("/v1/custom-properties", _PINCPU, 200)
    reply = caller.ask("POST", _PROPERTIES, body)
    assert reply.status_code == 400
    assert told in reply.text


def test_vm_is_created_with_properties(caller: Caller) -> None:
    caller.post("/v1/custom-properties", _PINCPU, 200)
    body = {"name": "new", "vm_id": NEW, **_given("7")}
    caller.post("/v1/vms", body)
    spec = caller.get(f"/v1/vms/{NEW}")["entry"]["vm"]["spec"]
    assert spec["custom_properties"] == _given("7")["custom_properties"]
    refused = caller.ask("POST", "/v1/vms", {"name": "other", **_given("x")})
    assert (refused.status_code, "must match [0-9-]+" in refused.text) == (400, True)


def test_removal_of_a_declaration_names_the_vms(caller: Caller) -> None:
    caller.post("/v1/custom-properties", _PINCPU, 200)
    caller.post(_PROPERTIES, _given("1-4"))
    gone = {"level": "vm", "name": "pincpu"}
    reply = caller.ask("POST", "/v1/custom-properties/remove", gone)
    assert (reply.status_code, "web1" in reply.text) == (409, True)
