"""The golden domain XML against the schema that libvirt itself validates with."""

from pathlib import Path

import pytest
from lxml import etree

_SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
_GOLDEN = Path(__file__).parent.parent / "unit" / "node" / "vm" / "golden"
_FILES = sorted(_GOLDEN.glob("*.xml"))


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(_SCHEMA))


@pytest.mark.real
@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.stem)
def test_golden_xml_is_valid(schema: etree.RelaxNG, path: Path) -> None:
    assert schema.validate(etree.parse(path)), schema.error_log
