"""The client: calls, what they are answered with, errors as they were raised."""

import pytest

from node.errors import Busy, Conflict, Failed, Unavailable
from node.http import client
from node.http.client import BadReply, NodeClient, Reply, error_of
from node.http.storage_client import StorageClient
from node.model import verbs
from node.model.ids import JobId
from node.model.verbs import Caller


class Prepared:
    """A transport that gives one reply and notes what was asked."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.asked: list[tuple[str, str, float]] = []

    def exchange(
        self,
        method: str,
        target: str,
        body: bytes | None,
        headers: object,
        timeout_s: float,
    ) -> Reply:
        self.asked.append((method, target, timeout_s))
        return self._reply


def _json(body: bytes, status: int = 200) -> Reply:
    return Reply(status, "application/json", body)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(_json(b""), id="empty"),
        pytest.param(_json(b"{"), id="no-json"),
        pytest.param(_json(b"[]"), id="a-list"),
        pytest.param(_json(b"{}"), id="field-missing"),
        pytest.param(_json(b'{"jobs":[5]}'), id="wrong-type"),
        pytest.param(Reply(200, "text/html", b"<html>"), id="a-page"),
        pytest.param(Reply(200, "", b'{"jobs":[]}'), id="no-type"),
        pytest.param(Reply(502, "text/html", b"<html>"), id="a-proxys-error"),
        pytest.param(_json(b"[]", 500), id="an-error-that-is-none"),
        pytest.param(_json(b"[" * 100_000, 500), id="a-deep-error"),
        pytest.param(_json(b'{"error":{"kind":5}}', 500), id="a-wrong-error"),
    ],
)
def test_call_refuses_nonsense(reply: Reply) -> None:
    with pytest.raises(BadReply) as raised:
        NodeClient(Prepared(reply)).job_list()
    assert raised.value.remedy


def test_call_passes_over_what_a_newer_node_adds() -> None:
    reply = _json(b'{"jobs":[],"colour":"red"}')
    assert NodeClient(Prepared(reply)).job_list().jobs == ()


def test_call_waits_as_long_as_it_asks_the_node_to() -> None:
    transport = Prepared(_json(b'{"events":[],"boot_id":"b","last":0}'))
    NodeClient(transport).events(7, 15.0)
    asked = ("GET", "/v1/events?since=7&wait_s=15.0", client.DEADLINE_S + 15.0)
    assert transport.asked == [asked]


def test_call_cannot_leave_its_path() -> None:
    transport = Prepared(_json(b"{}"))
    with pytest.raises(BadReply):
        NodeClient(transport).job_show(JobId("../vms?x#"))
    assert transport.asked[0][1] == "/v1/jobs/..%2Fvms%3Fx%23?wait_s=0.0"


def test_client_has_a_method_for_each_verb() -> None:
    wanted = {verb.name for verb in verbs.VERBS if verb.callers - {Caller.USER}}
    assert wanted <= {*vars(NodeClient), *vars(StorageClient)}


# --- errors


def test_error_is_what_the_node_raised() -> None:
    error = error_of(
        _json(
            b'{"error":{"kind":"busy","code":"create_busy","message":"one moment",'
            b'"remedy":"Wait.","fields":{"retry_after_s":3,"kind":"x","self":1}}}',
            423,
        )
    )
    assert type(error) is Busy
    assert (error.code, str(error), error.remedy) == (
        "create_busy",
        "one moment",
        "Wait.",
    )
    assert dict(error.fields) == {"retry_after_s": 3}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        pytest.param("conflict", Conflict, id="conflict"),
        pytest.param("unavailable", Unavailable, id="unavailable"),
        pytest.param("of-the-future", Failed, id="unknown"),
    ],
)
def test_error_has_the_kind_it_had_there(kind: str, expected: type[object]) -> None:
    body = f'{{"error":{{"kind":"{kind}","code":"c","message":"m"}}}}'
    assert type(error_of(_json(body.encode(), 500))) is expected
