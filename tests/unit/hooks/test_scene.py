"""The schema that judges the samples does judge."""

import pytest

from tests.unit.hooks import scene


def test_schema_accepts_what_the_node_builds() -> None:
    assert scene.schema_problems(scene.domain_xml()) == ""


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('placement="static"', 'cpuset="all"'),
        ("<devices>", "<devices><smartcard mode='none'/>"),
        ("<os>", "<os><smbios mode='loud'/>"),
    ],
)
def test_schema_dislikes_what_libvirt_does_not_know(good: str, bad: str) -> None:
    assert scene.schema_problems(scene.domain_xml().replace(good, bad)) != ""
