"""The node's nginx.conf, letter by letter; to change it, change the golden files."""

from pathlib import Path

import pytest

from node.api import nginx

GOLDEN = Path(__file__).parent / "golden"


def render(*, is_member: bool) -> str:
    return nginx.render(
        nginx.NodeFront(
            Path("/run/skerry"),
            Path("/var/lib/skerry/pki"),
            7440,
            7441,
            54322,
            is_member=is_member,
            has_ipv6=True,
        )
    )


@pytest.mark.parametrize(
    ("is_member", "name"),
    [(False, "nginx-waiting.conf"), (True, "nginx-member.conf")],
    ids=["waiting", "member"],
)
def test_render_is_the_golden_file(is_member: bool, name: str) -> None:
    assert render(is_member=is_member) == (GOLDEN / name).read_text()
