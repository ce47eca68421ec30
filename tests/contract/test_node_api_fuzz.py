"""A node's API meets bad input: no bug answers, nothing changes, each error helps."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from schemathesis import Case, GenerationMode

from node import wire
from node.model import (
    register_verbs,
    storage_verbs,
    transfer_verbs,
    verbs,
)
from node.model.ids import DiskId, VmId
from node.model.job import JobState
from node.model.requests import CreateVm
from node.model.verbs import Caller, Verb
from tests.contract import fuzzing
from tests.contract.agents import BUSY, IDLE, UNKNOWN, FakeAgent
from tests.fakes.papers import PaperFleet
from tests.fakes.storage_service import LAN, NAS, ROOT
from tests.fakes.transfer_service import UPLOAD
from tests.unit.node.vm.examples import DISK, NIC, SPEC

JSON = "application/json"


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAgent]:
    made = FakeAgent(tmp_path_factory.mktemp("agent"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def document(agent: FakeAgent) -> str:
    return agent.client.get("/v1/openapi.json").text


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[FakeAgent]:
    made = FakeAgent(tmp_path)
    yield made
    made.close()


# --- what the API's own document leads to


def _verbs_and_modes() -> list[Any]:
    return [
        pytest.param(verb, mode, id=f"{verb.name}-{mode.value}")
        for verb in verbs.VERBS
        for mode in fuzzing.modes(verb)
    ]


@pytest.mark.parametrize(("verb", "mode"), _verbs_and_modes())
def test_no_request_meets_a_bug(
    agent: FakeAgent, document: str, verb: Verb, mode: GenerationMode
) -> None:
    agent.restore()
    is_local = Caller.LOCAL in verb.callers
    app, headers = (agent.local, {}) if is_local else (agent.fleet, agent.headers())
    schema = fuzzing.schema_of(document, app)
    fuzzing.ask(schema, verb, mode, lambda case: None, headers)


@pytest.mark.parametrize(
    "verb",
    [verb for verb in verbs.VERBS if "{vm_id}" in verb.path],
    ids=lambda verb: verb.name,
)
@pytest.mark.parametrize("vm_id", [IDLE, BUSY], ids=["down", "running"])
def test_no_request_of_a_vm_meets_a_bug(
    agent: FakeAgent, document: str, verb: Verb, vm_id: VmId
) -> None:
    agent.restore()

    def aim(case: Case[Any]) -> None:
        fuzzing.aim_at(vm_id=vm_id)(case)
        if isinstance(case.body, dict):
            case.body.pop("generation", None)  # else most are refused for it
            if "deadline_s" in case.body:
                case.body["deadline_s"] = 0.0

    schema = fuzzing.schema_of(document, agent.local)
    fuzzing.ask(schema, verb, GenerationMode.POSITIVE, aim, {})
    agent.settle()
    ended = [job.error.code for job in agent.jobs.list() if job.error is not None]
    assert "internal_error" not in ended


@pytest.mark.parametrize(
    "verb",
    [
        verb
        for verb in (
            *register_verbs.VERBS,
            *storage_verbs.VERBS,
            *transfer_verbs.VERBS,
        )
        if "{" in verb.path
    ],
    ids=lambda verb: verb.name,
)
def test_no_request_of_what_storage_has_meets_a_bug(
    agent: FakeAgent, document: str, verb: Verb
) -> None:
    before = len(agent.storage.asked) + len(agent.transfers.asked)
    aim = fuzzing.aim_at(
        pool_id=LAN, storage_domain_id=NAS, disk_id=ROOT, transfer_id=UPLOAD
    )
    schema = fuzzing.schema_of(document, agent.local)
    statuses = fuzzing.ask(schema, verb, GenerationMode.POSITIVE, aim, {})
    assert verb.status in statuses  # some of them were taken
    asked = len(agent.storage.asked) + len(agent.transfers.asked)
    assert verb.request is None or asked > before
    agent.settle()


# --- what no document leads to

_NEW = replace(
    SPEC,
    vm_id=VmId("aaaaaaaa-0000-4000-8000-00000000000c"),
    name="new",
    disks=(replace(DISK, disk_id=DiskId("bbbbbbbb-0000-4000-8000-00000000000c")),),
    nics=(replace(NIC, mac="52:54:01:00:00:0c"),),
)
_VALID: dict[str, Any] = wire.to_json(CreateVm(_NEW))
_CREATE = ("POST", "/v1/vms")
_START = ("POST", f"/v1/vms/{IDLE}/start")
_STOP = ("POST", f"/v1/vms/{IDLE}/stop")


def _spec(**fields: Any) -> bytes:
    """Return a request to create a VM with some fields of another value."""
    changed = copy.deepcopy(_VALID)
    changed["spec"].update(fields)
    return json.dumps(changed).encode()


def _disk(**fields: Any) -> bytes:
    return _spec(disks=[{**_VALID["spec"]["disks"][0], **fields}])


def _nic(**fields: Any) -> bytes:
    return _spec(nics=[{**_VALID["spec"]["nics"][0], **fields}])


def _text(old: str, new: str) -> bytes:
    """Return a request to create a VM with another text in place of one."""
    text = json.dumps(_VALID)
    assert old in text
    return text.replace(old, new, 1).encode("utf-8", "surrogatepass")


_BODIES: dict[str, tuple[bytes, str, str | None]] = {
    # id: (body of vm_create, code, field)
    "empty": (b"", "missing_field", "spec"),
    "null": (b"null", "malformed", "the body"),
    "list": (b"[]", "malformed", "the body"),
    "number": (b"1", "malformed", "the body"),
    "half": (b'{"spec":', "malformed", None),
    "two-values": (b"{} {}", "malformed", None),
    "unknown-field": (_spec(colour="red"), "unknown_field", "spec.colour"),
    "field-twice": (b'{"spec":{},"spec":{}}', "malformed", "spec"),
    "name-missing": (_text('"name": "new", ', ""), "missing_field", "spec.name"),
    "name-null": (_spec(name=None), "malformed", "spec.name"),
    "name-number": (_spec(name=5), "malformed", "spec.name"),
    "name-empty": (_spec(name=""), "bad_vm", "name"),
    "name-slash": (_spec(name="../new"), "bad_vm", "name"),
    "name-controls": (_spec(name="a\x1b[2Jb"), "bad_vm", "name"),
    "name-nul": (_spec(name="a\0b"), "malformed", "spec.name"),
    "name-surrogate": (_spec(name="a\ud800b"), "malformed", None),
    "name-long": (_spec(name="n" * 900_000), "bad_vm", "name"),
    "name-not-nfc": (_spec(name="e\u0301"), "bad_vm", "name"),
    "name-taken": (_spec(name="idle"), "vm_name_taken", None),
    "mac-taken": (_nic(mac="52:54:01:00:00:0a"), "mac_taken", None),
    "description-long": (_spec(description="d" * 900_000), "bad_vm", "description"),
    "memory-text": (_spec(memory_bytes="5"), "malformed", "spec.memory_bytes"),
    "memory-true": (_spec(memory_bytes=True), "malformed", "spec.memory_bytes"),
    "memory-float": (_spec(memory_bytes=1e9), "malformed", "spec.memory_bytes"),
    "memory-negative": (_spec(memory_bytes=-1), "bad_vm", "memory_bytes"),
    "memory-odd": (_spec(memory_bytes=2**29 + 1), "bad_vm", "memory_bytes"),
    "memory-65-bits": (_spec(memory_bytes=2**64), "malformed", "spec.memory_bytes"),
    "memory-400-digits": (
        _spec(memory_bytes=10**400),
        "malformed",
        "spec.memory_bytes",
    ),
    "memory-5000-digits": (_text("536870912", "9" * 5000), "malformed", None),
    "memory-nan": (_text("536870912", "NaN"), "malformed", None),
    "memory-infinity": (_text("536870912", "-Infinity"), "malformed", None),
    "cpu-zero": (_spec(cpu={"cores": 0}), "bad_vm", "cpu.cores"),
    "cpu-overflow": (_spec(cpu={"cores": 2**62, "sockets": 2**62}), "bad_vm", "cpu"),
    "cpu-mode": (_spec(cpu={"mode": "fast"}), "malformed", "spec.cpu.mode"),
    "cpu-mode-list": (_spec(cpu={"mode": []}), "malformed", "spec.cpu.mode"),
    "machine": (_spec(machine="isapc"), "bad_vm", "machine"),
    "id-upper-case": (_spec(vm_id=_NEW.vm_id.upper()), "bad_vm", "vm_id"),
    "id-path": (_spec(vm_id="../../etc"), "bad_vm", "vm_id"),
    "disk-id-path": (_disk(disk_id="../../etc"), "bad_vm", "disks[0].disk_id"),
    "disk-image-path": (_disk(image="../x"), "bad_vm", "disks[0].image"),
    "disk-huge": (_disk(size_bytes=2**62), "bad_vm", "disks[0].size_bytes"),
    "disks-object": (_spec(disks={}), "malformed", "spec.disks"),
    "disks-null-in": (_spec(disks=[None]), "malformed", "spec.disks[0]"),
    "disks-many": (_spec(disks=_VALID["spec"]["disks"] * 17), "bad_vm", "disks"),
    "disks-twice": (
        _spec(disks=_VALID["spec"]["disks"] * 2),
        "bad_vm",
        "disks[1].disk_id",
    ),
    "nic-group": (_nic(mac="01:00:5e:00:00:01"), "bad_vm", "nics[0].mac"),
    "nic-network": (_nic(network="x"), "bad_vm", "nics[0].network"),
    "key-surrogate": (_text('"name"', '"\\ud800"'), "malformed", None),
    "key-long": (_spec(**{"k" * 900_000: 1}), "unknown_field", None),
    "deep": (b"[" * 100_000, "malformed", None),
    "deep-spec": (
        _text('"new"', "[" * 400 + "]" * 400),
        "malformed",
        "spec.name",
    ),
    "not-utf8": (_text("new", "\udcff"), "malformed", None),
    "latin-1": (b'{"spec":{"name":"\xe9"}}', "malformed", None),
    "utf-16": (json.dumps(_VALID).encode("utf-16"), "malformed", None),
    "byte-order-mark": (b"\xef\xbb\xbf{}", "malformed", None),
    "correlation-long": (
        json.dumps({**_VALID, "correlation_id": "c" * 37}).encode(),
        "malformed_id",
        "correlation_id",
    ),
}


@pytest.mark.parametrize(
    ("body", "code", "field"), _BODIES.values(), ids=_BODIES.keys()
)
def test_a_bad_vm_is_refused_and_nothing_changes(
    agent: FakeAgent, body: bytes, code: str, field: str | None
) -> None:
    _refused(agent, *_CREATE, body, JSON, code, field)


_REQUESTS: dict[str, tuple[tuple[str, str], bytes, str, str, str | None]] = {
    # id: (method and path, body, content type, code, field)
    "form": (_START, b"a=1", "application/x-www-form-urlencoded", "not_json", None),
    "xml": (_START, b"<a/>", "application/xml", "not_json", None),
    "text": (_START, b"{}", "text/plain", "not_json", None),
    "oversize": (_START, b" " * 2**21, JSON, "request_entity_too_large", None),
    "job-id": (_START, b'{"job_id":"x"}', JSON, "malformed_id", "job_id"),
    "paused-number": (_START, b'{"is_paused":1}', JSON, "malformed", "is_paused"),
    "generation": (_START, b'{"generation":7}', JSON, "stale_generation", None),
    "deadline-negative": (_STOP, b'{"deadline_s":-1}', JSON, "bad_deadline", None),
    "deadline-huge": (_STOP, b'{"deadline_s":1e300}', JSON, "bad_deadline", None),
    "deadline-beyond": (_STOP, b'{"deadline_s":1e999}', JSON, "malformed", None),
    "deadline-400-digits": (
        _STOP,
        b'{"deadline_s":%d}' % 10**400,
        JSON,
        "malformed",
        None,
    ),
    "manner": (_STOP, b'{"manner":"soft"}', JSON, "malformed", "manner"),
    "vm-id": (("POST", "/v1/vms/x/start"), b"{}", JSON, "malformed_id", "vm_id"),
    "vm-unknown": (
        ("POST", f"/v1/vms/{UNKNOWN}/start"),
        b"{}",
        JSON,
        "vm_unknown",
        None,
    ),
    "job-unknown": (
        ("POST", f"/v1/jobs/{UNKNOWN}/cancel"),
        b"",
        JSON,
        "job_unknown",
        None,
    ),
    "since-text": (("GET", "/v1/changes?since=x"), b"", "", "bad_query", "since"),
    "since-400-digits": (
        ("GET", "/v1/changes?since=" + "9" * 400),
        b"",
        "",
        "bad_query",
        "since",
    ),
    "since-5000-digits": (
        ("GET", "/v1/changes?since=" + "9" * 5000),
        b"",
        "",
        "bad_query",
        "since",
    ),
    "since-twice": (
        ("GET", "/v1/changes?since=1&since=2"),
        b"",
        "",
        "bad_query",
        "since",
    ),
    "since-future": (
        ("GET", "/v1/changes?since=999999"),
        b"",
        "",
        "revision_unknown",
        None,
    ),
    "wait-infinite": (
        ("GET", "/v1/events?wait_s=inf"),
        b"",
        "",
        "bad_query",
        "wait_s",
    ),
    "screenshot-of-none": (
        ("GET", f"/v1/vms/{IDLE}/screenshot"),
        b"",
        "",
        "vm_not_running",
        None,
    ),
    "pool-id": (("GET", "/v1/pools/x"), b"", "", "malformed_id", "pool_id"),
    "disk-id": (
        ("POST", f"/v1/disks/{ROOT.upper()}/delete"),
        b"{}",
        JSON,
        "malformed_id",
        "disk_id",
    ),
    "target-id": (
        ("POST", f"/v1/disks/{ROOT}/move"),
        b'{"storage_domain_id":"../../etc"}',
        JSON,
        "malformed_id",
        "storage_domain_id",
    ),
    "size-text": (
        ("POST", f"/v1/disks/{ROOT}/resize"),
        b'{"size_bytes":"20G"}',
        JSON,
        "malformed",
        "size_bytes",
    ),
    "limit-float": (
        ("POST", f"/v1/disks/{ROOT}/change"),
        b'{"qos":{"total_iops":0.5}}',
        JSON,
        "malformed",
        "qos.total_iops",
    ),
    "connection-kind": (
        ("POST", "/v1/storage-domains/look"),
        b'{"connection":{"kind":"smb","path":"/x"}}',
        JSON,
        "malformed",
        "connection.kind",
    ),
    "dry-run": (
        ("POST", f"/v1/storage-domains/{NAS}/repair"),
        b'{"is_dry_run":true}',
        JSON,
        "unknown_field",
        "is_dry_run",
    ),
    "path": (("GET", "/v1/vms/%00"), b"", "", "malformed_id", "vm_id"),
    "not-there": (("GET", "/v1/%ff%fe"), b"", "", "not_found", None),
    "method": (("PATCH", "/v1/vms"), b"{}", JSON, "method_not_allowed", None),
    "fleets-own": (("PUT", "/v1/fleet/sealed"), b"{}", JSON, "not_served_here", None),
}


@pytest.mark.parametrize(
    ("request_line", "body", "content_type", "code", "field"),
    _REQUESTS.values(),
    ids=_REQUESTS.keys(),
)
def test_a_bad_request_is_refused_and_nothing_changes(
    agent: FakeAgent,
    request_line: tuple[str, str],
    body: bytes,
    content_type: str,
    code: str,
    field: str | None,
) -> None:
    agent.restore()
    _refused(agent, *request_line, body, content_type, code, field)


def _refused(
    agent: FakeAgent,
    method: str,
    path: str,
    body: bytes,
    content_type: str,
    code: str,
    field: str | None,
) -> None:
    before = agent.known()
    reply = agent.client.open(
        path, method=method, data=body, content_type=content_type or None
    )
    assert reply.json is not None
    error = reply.json["error"]
    assert error["code"] == code, error
    assert 400 <= reply.status_code < 500
    assert error["message"]
    assert error["remedy"]
    if field is not None:
        assert error["fields"]["field"] == field
    assert agent.known() == before


# --- what the state of a VM forbids


@pytest.mark.parametrize(
    ("vm_id", "act", "body", "code"),
    [
        pytest.param(BUSY, "start", {}, None, id="start-a-running-one"),
        pytest.param(BUSY, "resume", {}, None, id="resume-a-running-one"),
        pytest.param(IDLE, "stop", {}, None, id="stop-one-that-is-down"),
        pytest.param(IDLE, "pause", {}, "vm_not_running", id="pause-one-down"),
        pytest.param(IDLE, "resume", {}, "vm_not_running", id="resume-one-down"),
        pytest.param(IDLE, "reset", {}, "vm_not_running", id="reset-one-down"),
        pytest.param(BUSY, "delete", {}, "vm_not_down", id="delete-a-running-one"),
    ],
)
def test_an_act_that_does_not_fit_leaves_the_vm_as_it_is(
    fresh: FakeAgent, vm_id: VmId, act: str, body: dict[str, Any], code: str | None
) -> None:
    before = fresh.vms.list()
    reply = fresh.client.post(f"/v1/vms/{vm_id}/{act}", json=body)
    assert reply.status_code == 202
    assert reply.json is not None
    ended = fresh.end_of(wire.from_json(verbs.VM_START.reply, reply.json))  # type: ignore[arg-type]  # the reply of each is a Job
    assert ended.state is (JobState.FAILED if code else JobState.DONE)
    if code is not None:
        assert ended.error is not None
        assert (ended.error.kind, ended.error.code) == ("conflict", code)
        assert ended.error.remedy
    assert fresh.vms.list() == before


def test_a_job_id_of_another_job_is_refused(fresh: FakeAgent) -> None:
    body = {"job_id": UNKNOWN}
    assert fresh.client.post(f"/v1/vms/{IDLE}/start", json=body).status_code == 202
    reply = fresh.client.post(f"/v1/vms/{IDLE}/stop", json=body)
    assert reply.status_code == 409
    assert reply.json is not None
    assert reply.json["error"]["code"] == "job_id_taken"


def test_a_valid_vm_is_made_after_all_of_that(agent: FakeAgent) -> None:
    reply = agent.client.post("/v1/vms", json=_VALID)
    assert (reply.status_code, reply.json and "vm" in reply.json) == (201, True)
    again = agent.client.post("/v1/vms", json=_VALID)
    assert again.json == reply.json


# --- the fleet's face


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        pytest.param({"X-Skerry-Role": ""}, 403, "role_refused", id="no-role"),
        pytest.param({"X-Skerry-Role": "node"}, 403, "role_refused", id="a-node"),
        pytest.param({"X-Skerry-Fleet": UNKNOWN}, 409, "wrong_fleet", id="other-fleet"),
        pytest.param({"X-Skerry-Fleet": "é"}, 409, "wrong_fleet", id="odd-fleet"),
        pytest.param({"X-Skerry-Term": "0"}, 409, "superseded", id="old-term"),
        pytest.param({"X-Skerry-Term": "-1"}, 400, "bad_term", id="negative-term"),
        pytest.param({"X-Skerry-Term": "1e3"}, 400, "bad_term", id="no-number"),
    ],
)
def test_a_bad_caller_is_refused_and_nothing_changes(
    agent: FakeAgent, headers: dict[str, str], status: int, code: str
) -> None:
    agent.restore()
    before = agent.known()
    reply = agent.fleet.test_client().post(
        f"/v1/vms/{IDLE}/start", json={}, headers={**agent.headers(), **headers}
    )
    assert reply.json is not None
    assert (reply.status_code, reply.json["error"]["code"]) == (status, code)
    assert agent.known() == before


def test_nobody_is_admitted_with_certificates_that_are_none(fresh: FakeAgent) -> None:
    before = fresh.known()
    csr = fresh.enrolment.request().csr
    good = wire.to_json(PaperFleet(now=fresh.clock.now()).admission(csr))
    for field in ("certificate", "ca_certificate"):
        for text in ("", "x", "-----BEGIN CERTIFICATE-----\nZmFrZQ==\n-----END"):
            reply = fresh.admission.test_client().put(
                "/v1/admission", json={**good, field: text}
            )
            assert reply.status_code == 400, (field, text, reply.text)
    assert fresh.known() == before
