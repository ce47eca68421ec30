"""Mark a domain as ours, and say which definition it was started from. Pure.

<metadata><skerry:vm xmlns:skerry="urn:skerry:vm:1">
  <skerry:generation>1</skerry:generation> <skerry:wanted>up</skerry:wanted>
  <skerry:pool>dddddddd-…</skerry:pool>      that bears its definition, if one does
</skerry:vm></metadata>
"""

from dataclasses import dataclass

from lxml import etree

from node.model.ids import PoolId
from node.model.vm import Wanted

NAMESPACE = "urn:skerry:vm:1"
_PREFIXES = {"skerry": NAMESPACE}


@dataclass(frozen=True, slots=True)
class Mark:
    generation: int
    wanted: Wanted
    pool_id: PoolId | None = None  # None: a VM of its node alone


def build(mark: Mark) -> etree._Element:
    """Return the metadata element."""
    metadata = etree.Element("metadata")
    ours = etree.SubElement(metadata, f"{{{NAMESPACE}}}vm", nsmap=_PREFIXES)
    generation = etree.SubElement(ours, f"{{{NAMESPACE}}}generation")
    generation.text = str(mark.generation)
    wanted = etree.SubElement(ours, f"{{{NAMESPACE}}}wanted")
    wanted.text = mark.wanted.value
    if mark.pool_id is not None:
        etree.SubElement(ours, f"{{{NAMESPACE}}}pool").text = mark.pool_id
    return metadata


def find(domain: etree._Element) -> Mark | None:
    """Return the mark of a domain; None if it is not ours."""
    generation = domain.findtext(
        "metadata/skerry:vm/skerry:generation", namespaces=_PREFIXES
    )
    wanted = domain.findtext("metadata/skerry:vm/skerry:wanted", namespaces=_PREFIXES)
    if generation is None or wanted is None:
        return None
    pool = domain.findtext("metadata/skerry:vm/skerry:pool", namespaces=_PREFIXES)
    return Mark(int(generation), Wanted(wanted), PoolId(pool) if pool else None)
