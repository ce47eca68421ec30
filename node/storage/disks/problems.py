"""Say in words what a check of a storage domain found, and what repairs would do.

Pure. Written for whoever has to decide at night: what is the matter, what would be
done, and that nothing else would be. Source: docs/formats/storage-domain.md.
"""

from collections.abc import Iterable
from typing import Final

from node.model.ids import DiskId, VolumeId
from node.model.storage_requests import StorageProblem, StorageProblems
from node.storage.disks.chain_problems import Step, Verb
from node.storage.disks.sights import DomainSight, Finding
from node.storage.formats.volume_meta import Legality, VolumeRole

_ROLES: Final = {
    VolumeRole.LEAF: "the disk's newest state, which a VM writes to",
    VolumeRole.INTERNAL: "a state that others are built on, which nobody writes to",
    VolumeRole.SHARED: "a template's, which nobody writes to",
}
_LEGALITIES: Final = {
    Legality.LEGAL: "usable",
    Legality.ILLEGAL: "unusable",
    Legality.FAKE: "a placeholder",
}


def report(sight: DomainSight, findings: Iterable[Finding]) -> StorageProblems:
    """Return what a check tells: `sight` is the storage domain as it was read."""
    return StorageProblems(
        tuple(_problem(sight, each) for each in findings),
        len(sight.images),
        sight.passed_over,
        sight.foreign,
    )


def sentence(step: Step) -> str:
    """Return what one step of a repair does."""
    volume_id = step.volume_id
    match step.verb:
        case Verb.SET_PARENT:
            return f"write into the metadata of {volume_id}: built on {step.parent_id}"
        case Verb.SET_ROLE:
            assert step.role is not None, step
            return f"mark {volume_id} as {_ROLES[step.role]}"
        case Verb.SET_LEGALITY:
            assert step.legality is not None, step
            return f"mark {volume_id} as {_LEGALITIES[step.legality]}"
        case Verb.MAKE_LEASE:
            return f"make the lease file of {volume_id} anew"
        case Verb.REMOVE_LEASE:
            return f"remove the lease file of {volume_id}"
        case Verb.REMOVE_VOLUME:
            return f"remove {volume_id}: its data, its lease file and its metadata"
        case Verb.LINK_TEMPLATE:
            return f"link {volume_id} of the template's disk {step.image_id} here again"
        case Verb.REMOVE_IMAGE:
            return "remove the disk's folder, which is empty"
        case Verb.PURGE_REMAINS:
            return "remove the folder `_remove_me_…` of the disk, with all that is left"
        case Verb.FORGET_OPTIONS:
            return "remove the file of the disk's options"


def _problem(sight: DomainSight, finding: Finding) -> StorageProblem:
    image = sight.images.get(finding.image_id)
    return StorageProblem(
        DiskId(finding.image_id),
        finding.kind,
        finding.explanation,
        image.name if image is not None else "",
        VolumeId(finding.volume_id) if finding.volume_id else None,
        tuple(map(sentence, finding.repair)),
    )
