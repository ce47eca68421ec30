"""What this node announces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import discovery
from node.model.fleet import AdmissionRequest
from node.model.ids import Fingerprint, NodeId
from tests.fakes.bus import FakeAnnouncer

NODE_ID = NodeId("11111111-2222-4333-8444-000000000001")


def request(name: str = "n1", *, is_waiting: bool = True) -> AdmissionRequest:
    return AdmissionRequest(
        NODE_ID, name, "0.1.0", Fingerprint("f" * 64), "csr", is_waiting=is_waiting
    )


@pytest.mark.parametrize(
    ("is_waiting", "state"), [(True, "waiting"), (False, "admitted")]
)
def test_service_says_whether_the_node_waits(is_waiting: bool, state: str) -> None:
    assert discovery.service(request(is_waiting=is_waiting)).texts["state"] == state


@given(st.text(min_size=1, max_size=300))
def test_service_fits_into_a_record(name: str) -> None:
    clean = name.encode(errors="ignore").decode()
    service = discovery.service(request(clean))
    assert len(service.name.encode()) <= 63
    assert all(
        len(f"{key}={value}".encode()) <= 255 for key, value in service.texts.items()
    )


def test_announce_passes_on_what_the_node_is_now() -> None:
    announcer = FakeAnnouncer()
    announcing = discovery.Discovery(announcer)
    announcing.announce(request())
    announcing.announce(request(is_waiting=False))
    announcing.close()
    assert [each.texts["state"] for each in announcer.announced] == [
        "waiting",
        "admitted",
    ]
    assert announcer.is_closed
