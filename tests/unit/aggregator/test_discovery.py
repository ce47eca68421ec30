"""What nodes announce is checked for its form."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import discovery
from aggregator.fleet.candidates import Sighting
from node import discovery as announcing
from node.clock import SystemClock
from node.model.fleet import AdmissionRequest
from node.model.ids import Fingerprint, NodeId

NODE_ID = NodeId("11111111-2222-4333-8444-000000000001")
REQUEST = AdmissionRequest(NODE_ID, "n1", "0.1.0", Fingerprint("f" * 64), "csr")
TEXTS = dict(announcing.service(REQUEST).texts)


def test_browser_asks_for_a_name_once_however_often_it_comes_back() -> None:
    browser = discovery.Browser(print, print, SystemClock())
    browser._browser = path = "/browser"
    for _ in range(3):
        browser._on_new(2, 0, "n1", discovery.SERVICE, "local", 0, path)
        assert len(browser._due) == 1
        browser._on_old(2, 0, "n1", discovery.SERVICE, "local", 0, path)
        assert not browser._due


def test_sighting_reads_what_a_node_announces() -> None:
    assert discovery.sighting(TEXTS, "10.0.0.1", 7441) == Sighting(
        NODE_ID, "n1", "10.0.0.1", 7441, "0.1.0", REQUEST.fingerprint, is_waiting=True
    )


def test_sighting_reads_whom_a_member_belongs_to() -> None:
    member = AdmissionRequest(
        NODE_ID,
        "n1",
        "0.1.0",
        REQUEST.fingerprint,
        "csr",
        is_waiting=False,
        ca_fingerprint=Fingerprint("a" * 64),
    )
    texts = announcing.service(member).texts
    seen = discovery.sighting(texts, "10.0.0.1", 7441)
    assert seen is not None
    assert (seen.is_waiting, seen.ca_fingerprint) == (False, "a" * 64)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "n1"},
        {"id": NODE_ID.upper().replace("1", "A")},
        {"fingerprint": "f" * 63},
        {"name": ""},
        {"name": "a\nb"},
        {"name": "ä" * 128},
        {"version": "<script>"},
        {"ca": "x"},
    ],
    ids=lambda change: "-".join(change),
)
def test_sighting_refuses_other_forms(change: dict[str, str]) -> None:
    assert discovery.sighting({**TEXTS, **change}, "10.0.0.1", 7441) is None


@pytest.mark.parametrize("port", [0, 65536])
def test_sighting_refuses_ports_that_are_none(port: int) -> None:
    assert discovery.sighting(TEXTS, "10.0.0.1", port) is None


@given(st.lists(st.binary(max_size=60)))
def test_read_texts_survives_anything(texts: list[bytes]) -> None:
    pairs = discovery.read_texts(texts)
    assert all(isinstance(value, str) for value in pairs.values())
    discovery.sighting(pairs, "10.0.0.1", 7441)


def test_read_texts_believes_the_first_of_a_key() -> None:
    """RFC 6763, section 6.4."""
    assert discovery.read_texts([b"Name=a", b"name=b", b"flag"]) == {"name": "a"}
