"""Turn the actions of a plan into what the storage process is asked.

Pure. A plan's paths begin with a storage domain's id; here they get their place on
this node. Programs are ours to name: a journal says which, never how to call it.
"""

import base64
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from node.errors import Error, Failed, Unavailable
from node.storage import allocate, images, wipe
from node.storage.formats import layout
from node.storage.formats.layout import FILE_MODE, FOLDER_MODE
from node.storage.operations import plan as plans
from node.storage.operations.plan import Action, Verb
from node.storage.process.file_operations import StorageFull
from node.storage.process.protocol import ResourceAt, Step

_FULL: Final = "No space left on device"  # strerror, in the C locale
_SHOWN: Final = 400


class StorageDomainAway(Unavailable):
    """The operation needs a storage domain that is not active here."""

    code = "storage_domain_away"
    remedy = "Activate the storage domain; the operation goes on then."


class ProgramFailed(Failed):
    """A program that works on disks ended with an error."""

    code = "storage_program_failed"
    remedy = "Correct what the program complains about, then try again."


class ProgramKilled(Unavailable):
    """A program was killed: its lease was lost, or the storage process ended."""

    code = "storage_program_killed"
    remedy = "The manager finishes or undoes the operation by itself."


@dataclass(frozen=True, slots=True)
class Home:
    """Where a storage domain is mounted on this node."""

    root: str
    sector_bytes: int = 512
    alignment_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Homes:
    """The active storage domains of this node, by their ids; always current."""

    by_id: Mapping[str, Home]
    images: Path | None = None  # where base images lie; None: there are none

    def operations(self, actions: Iterable[Action]) -> Iterator[Mapping[str, Any]]:
        """Yield file actions as the storage process takes them.

        What is removed together is gone in any order when the power fails, but for a
        volume's metadata: they tell what the rest is, and go when that is gone.
        """
        for action in actions:
            if action.verb is Verb.REMOVE and _is_meta(action.path):
                yield {"name": "settle"}
            yield self._operation(action)

    def _operation(self, action: Action) -> Mapping[str, Any]:
        path = self._real(action.path)
        match action.verb:
            case Verb.MAKE_FOLDER:
                arguments: dict[str, Any] = {"path": path, "mode": FOLDER_MODE}
            case Verb.MAKE_FILE:
                arguments = {
                    "path": path,
                    "size_bytes": action.size_bytes,
                    "mode": FILE_MODE,
                    "is_preallocated": False,
                }
            case Verb.MAKE_QCOW2:
                backing, backing_format = action.words or ("", "")
                arguments = {
                    "path": path,
                    "size_bytes": action.size_bytes,
                    "mode": FILE_MODE,
                    "backing": backing,
                    "backing_format": backing_format,
                }
            case Verb.WRITE:
                data = base64.b64encode(action.text.encode()).decode()
                arguments = {"path": path, "data": data, "mode": FILE_MODE}
            case Verb.RENAME | Verb.LINK:
                arguments = {"old": path, "new": self._real(action.target)}
            case _:
                arguments = {"path": path}
        return {"name": action.verb.value, **arguments}

    def command(self, action: Action) -> tuple[list[str], str]:
        """Return the words of a program, and the folder to run it in."""
        path = self._real(action.path)
        if action.verb is Verb.WIPE:
            return _python(wipe.__file__, path), "/"
        if action.verb is Verb.ALLOCATE:
            return _python(allocate.__file__, path, str(action.size_bytes)), "/"
        if action.verb is Verb.FILL:
            return self._filling(action, path), "/"
        words = [self._real(w) if plans.is_path(w) else w for w in action.words]
        return ["qemu-img", *words], path

    def _filling(self, action: Action, path: str) -> list[str]:
        """Return what copies a base image over zeros, as what its header says it is.

        That is qcow2 alone: were the file another one by now, it would not be probed,
        nor would anything be opened that it names as its backing.
        """
        if self.images is None:
            raise images.ImageUnknown(f"there is no base image {action.text} here")
        source = {
            "driver": "qcow2",
            "backing": None,
            "file": {
                "driver": "file",
                "filename": str(self.images / f"{action.text}{images.SUFFIX}"),
            },
        }
        (volume_format,) = action.words
        words = ["qemu-img", "convert", "-p", "-t", "none", "-n", "--target-is-zero"]
        return [*words, "-O", volume_format, f"json:{json.dumps(source)}", path]

    def home(self, storage_domain_id: str) -> Home:
        if storage_domain_id not in self.by_id:
            raise StorageDomainAway(
                f"storage domain {storage_domain_id} is not active here",
                storage_domain_id=storage_domain_id,
            )
        return self.by_id[storage_domain_id]

    def _real(self, path: str) -> str:
        """Return where a path of a plan is on this node."""
        _, storage_domain_id, *parts = path.split("/")
        return "/".join([self.home(storage_domain_id).root, *parts])

    def resource(self, path: str) -> ResourceAt:
        volume_id = plans.volume_of(path)
        assert volume_id is not None, f"{path} is no lease"
        storage_domain_id = path.split("/")[1]
        home = self.home(storage_domain_id)
        return ResourceAt(
            storage_domain_id,
            volume_id,
            self._real(path),
            layout.VOLUME_LEASE_OFFSET,
            home.sector_bytes,
            home.alignment_bytes,
        )


def _is_meta(path: str) -> bool:
    found = layout.read_volume_name(PurePosixPath(path).name)
    return found is not None and found.part is layout.VolumePart.META


def _python(program: str, *words: str) -> list[str]:
    """Return how to run a program of ours: as text, our folder may not be readable."""
    text = Path(program).read_text()
    return [os.path.realpath(sys.executable), "-I", "-S", "-c", text, *words]


def complaint(action: Action, step: Step) -> Error:
    """Return why a program ended as it did."""
    status = step.exit_status or 0
    text = step.stderr.strip().rpartition("\n")[2][:_SHOWN]
    fields: dict[str, Any] = {"program": action.verb.value, "status": status}
    if step.was_lost or status < 0:
        return ProgramKilled(f"{action.verb} was killed by {-status}", **fields)
    if _FULL in step.stderr:
        return StorageFull(f"{action.verb}: {text}", **fields)
    return ProgramFailed(f"{action.verb} ended with {status}: {text}", **fields)
