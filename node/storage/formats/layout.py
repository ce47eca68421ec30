"""Name what lies in a file storage domain, and where.

Pure. Every path is built from ids that were checked, so no name that came from
outside can leave the storage domain. Sizes are bytes. Drawn in, and source:
docs/formats/storage-domain.md.
"""

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import PurePosixPath
from typing import Final

from node.errors import Invalid
from node.units import MiB

# What oVirt's hosts use: user and group vdsm:kvm are 36:36 everywhere.
FILE_MODE: Final = 0o660
# libvirt looks as root whether an image is there. Where NFS makes root nobody, it must
# pass through the folders; it need not list them, nor open anything.
FOLDER_MODE: Final = 0o771
OWNER_ID: Final = 36

NO_PARENT: Final = "00000000-0000-0000-0000-000000000000"
ISO_IMAGE: Final = "11111111-1111-1111-1111-111111111111"  # where ISO files lie
MAILBOX_SIZE: Final = 16 * MiB  # of inbox and outbox; sanlock grows its own files

# sanlock: the SPM's resource lies in slot 1 of `leases` (slot 0 was safelease's),
# a volume's at the start of its own file. A slot is as long as the alignment.
SPM_RESOURCE: Final = "SDM"
SPM_SLOT: Final = 1
VOLUME_LEASE_OFFSET: Final = 0

_ID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
_BASE_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_REMOVED = "_remove_me_"
META = ".meta"
_LEASE = ".lease"
_TURNED = ".turned"
_NEW = ".new"  # what is written before it is renamed over the old file
_OURS = "skerry"


class BadId(Invalid):
    """What should be an id in a storage domain is none."""

    code = "bad_storage_id"
    remedy = "Use the lower-case UUID of the storage domain, image, volume or VM."


class Special(StrEnum):
    """The files in `dom_md` that every storage domain of version 4 and later has."""

    METADATA = "metadata"
    LEASES = "leases"
    IDS = "ids"
    INBOX = "inbox"
    OUTBOX = "outbox"
    XLEASES = "xleases"


class FolderKind(Enum):
    IMAGE = "image"
    REMOVED = "removed"  # renamed, to be purged


class VolumePart(Enum):
    DATA = "data"
    META = "meta"
    LEASE = "lease"
    TURNED = "turned"  # the mark of a guest that has left it, see `disks.turned`
    UNFINISHED = "unfinished"  # a write of the meta file that was interrupted


@dataclass(frozen=True, slots=True)
class ImageFolder:
    image_id: str
    kind: FolderKind


@dataclass(frozen=True, slots=True)
class VolumeFile:
    volume_id: str
    part: VolumePart


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one storage domain."""

    root: PurePosixPath  # absolute; its name is the storage domain's id

    def __post_init__(self) -> None:
        assert self.root.is_absolute(), f"{self.root} is relative"
        check_id(self.root.name)

    @property
    def storage_domain_id(self) -> str:
        return self.root.name

    @property
    def dom_md(self) -> PurePosixPath:
        return self.root / "dom_md"

    @property
    def images(self) -> PurePosixPath:
        return self.root / "images"

    @property
    def tasks(self) -> PurePosixPath:
        """Where oVirt keeps its tasks; an oVirt host reads all that is in there."""
        return self.root / "master" / "tasks"

    @property
    def vms(self) -> PurePosixPath:
        return self.root / "master" / "vms"

    @property
    def pool_map(self) -> PurePosixPath:
        return self.dom_md / _OURS / "pool_map"

    @property
    def journals(self) -> PurePosixPath:
        return self.dom_md / _OURS / "journals"

    def old_journals(self, version: int) -> PurePosixPath:
        """Return where journals are kept that no master goes on with any more.

        `version` is that of the lease under which they were found.
        """
        return self.dom_md / _OURS / f"journals_before_{version}"

    @property
    def disks(self) -> PurePosixPath:
        """What disks are besides their volumes, see `disk_options`."""
        return self.dom_md / _OURS / "disks"

    @property
    def presence(self) -> PurePosixPath:
        """Where each node of the pool says that it is there."""
        return self.dom_md / _OURS / "presence"

    @property
    def data_jobs(self) -> PurePosixPath:
        """Where the manager and the nodes tell each other of data to be moved."""
        return self.dom_md / _OURS / "data_jobs"

    @property
    def local_leases(self) -> PurePosixPath:
        """What the storage process remembers of a local disk's leases."""
        return self.dom_md / _OURS / "local_leases"

    def folders(self) -> tuple[PurePosixPath, ...]:
        """Return the folders of an empty storage domain, parents first."""
        return (
            self.root,
            self.dom_md,
            self.pool_map.parent,
            self.journals,
            self.images,
            self.tasks.parent,
            self.tasks,
            self.vms,
        )

    def special(self, name: Special) -> PurePosixPath:
        return self.dom_md / name

    def vm(self, vm_id: str) -> PurePosixPath:
        return self.vms / check_id(vm_id)

    def vm_variables(self, vm_id: str) -> PurePosixPath:
        """Return what a VM's firmware remembers; its guest writes to it."""
        return self.vm(vm_id) / "variables"

    def removed_vm(self, vm_id: str) -> PurePosixPath:
        """Return the name that the folder of a VM gets before it is purged."""
        return self.vms / f"{_REMOVED}{check_id(vm_id)}"

    def image(self, image_id: str) -> PurePosixPath:
        return self.images / check_id(image_id)

    def removed_image(self, image_id: str) -> PurePosixPath:
        """Return the name an image gets before it is purged."""
        return self.images / f"{_REMOVED}{check_id(image_id)}"

    def disk_options(self, disk_id: str) -> PurePosixPath:
        return self.disks / check_id(disk_id)

    def volume(self, image_id: str, volume_id: str) -> PurePosixPath:
        return self.image(image_id) / check_id(volume_id)

    def volume_meta(self, image_id: str, volume_id: str) -> PurePosixPath:
        return self.image(image_id) / f"{check_id(volume_id)}{META}"

    def volume_lease(self, image_id: str, volume_id: str) -> PurePosixPath:
        return self.image(image_id) / f"{check_id(volume_id)}{_LEASE}"

    def volume_turned(self, image_id: str, volume_id: str) -> PurePosixPath:
        return self.image(image_id) / f"{check_id(volume_id)}{_TURNED}"


def check_id(text: str) -> str:
    """Return an id that may be a file's name; BadId if it is no UUID."""
    if not is_id(text):
        raise BadId(f"{text[:80]!a} is no lower-case UUID", id=ascii(text[:80]))
    return text


def is_id(text: str) -> bool:
    """Tell whether a text is a lower-case UUID with dashes."""
    return _ID.fullmatch(text) is not None


def is_base_image(name: str) -> bool:
    """Tell whether a node's base image may be named so, and its file."""
    return _BASE_IMAGE.fullmatch(name) is not None


def read_image_name(name: str) -> ImageFolder | None:
    """Return what a name in `images` stands for; None if it is not ours to touch."""
    image_id = name.removeprefix(_REMOVED)
    if not is_id(image_id):
        return None
    kind = FolderKind.IMAGE if image_id == name else FolderKind.REMOVED
    return ImageFolder(image_id, kind)


def read_volume_name(name: str) -> VolumeFile | None:
    """Return what a name in an image's folder stands for; None if it is foreign."""
    for suffix, part in _SUFFIXES:
        volume_id = name.removesuffix(suffix)
        if name.endswith(suffix) and is_id(volume_id):
            return VolumeFile(volume_id, part)
    return None


def read_backing(name: str) -> str | None:
    """Return the volume that a qcow2 header names; None if it is no volume of ours.

    A volume and its backing lie in one folder: templates are hard-linked into it.
    oVirt writes the bare volume id today, and wrote `../<image>/<volume>` before.
    """
    *folders, volume_id = name.split("/")
    if not is_id(volume_id):
        return None
    if not folders:
        return volume_id
    is_sibling = len(folders) == 2 and folders[0] == ".." and is_id(folders[1])
    return volume_id if is_sibling else None


# The data file's suffix is empty, so it fits every name: it comes last.
_SUFFIXES: Final = (
    (f"{META}{_NEW}", VolumePart.UNFINISHED),
    (META, VolumePart.META),
    (_LEASE, VolumePart.LEASE),
    (_TURNED, VolumePart.TURNED),
    ("", VolumePart.DATA),
)
