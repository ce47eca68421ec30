"""What a guest agent says, and what a hostile one may say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.guest import qga

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
)


def _cards(*addresses: Any) -> Any:
    return [{"name": "eth0", "ip-addresses": [{"ip-address": a} for a in addresses]}]


@pytest.mark.parametrize(
    ("reply", "addresses"),
    [
        pytest.param(_cards("192.0.2.7"), ("192.0.2.7",), id="ipv4"),
        pytest.param(_cards("2001:DB8::1"), ("2001:db8::1",), id="ipv6"),
        pytest.param(_cards("127.0.0.1", "::1"), (), id="loopback"),
        pytest.param(_cards("169.254.1.1", "fe80::1%eth0"), (), id="link-local"),
        pytest.param(_cards("192.0.2.7") * 2, ("192.0.2.7",), id="twice"),
        pytest.param([{"name": "eth0"}], (), id="no-address"),
        pytest.param(_cards("nonsense", 7, None), (), id="no-addresses-at-all"),
    ],
)
def test_read_addresses_returns_those_that_others_reach(
    reply: Any, addresses: tuple[str, ...]
) -> None:
    assert qga.read_addresses(reply) == addresses


def test_read_addresses_is_bounded() -> None:
    reply = _cards(*(f"192.0.2.{number}" for number in range(200)))
    assert len(qga.read_addresses(reply)) == 64


@given(_JSON)
def test_a_guest_that_talks_nonsense_breaks_nothing(reply: Any) -> None:
    assert isinstance(qga.read_addresses(reply), tuple)
    assert len(qga.read_host_name(reply)) <= 255
    assert len(qga.read_os(reply)) <= 255


@pytest.mark.parametrize(
    ("reply", "os"),
    [
        pytest.param({"pretty-name": "Debian 13", "name": "x"}, "Debian 13", id="full"),
        pytest.param({"name": "Debian"}, "Debian", id="name-only"),
        pytest.param({"pretty-name": "a\x1b[2Jb"}, "a[2Jb", id="escape-sequence"),
        pytest.param({}, "", id="empty"),
    ],
)
def test_read_os_prefers_the_full_name(reply: Any, os: str) -> None:
    assert qga.read_os(reply) == os
