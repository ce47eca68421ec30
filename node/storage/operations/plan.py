"""Say how an operation on disks is done: its steps, and the way back.

Pure. A plan lies in a journal, and another node may go on with it: so its paths
begin with a storage domain's id (`/<id>/images/…`), and where that is mounted is
each node's own matter. Sizes are bytes.

    step 1 … step c  │  step c+1 … step n        c: `commit`
    who stops here   │  who stops here
    is undone        │  is finished

Undoing begins with the step under way and goes backwards. So every action may be
repeated, and one that undoes may find nothing to undo. Each storage domain is undone
on its own, for one may be gone: no undoing waits for that on another.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Final

from node.errors import Invalid
from node.storage.formats import layout


class BadPlan(Invalid):
    """A plan does what no operation of ours would do."""

    code = "bad_plan"
    remedy = "Find out who wrote the journal; nothing was done."


class Verb(StrEnum):
    """What an action does, and the fields that it uses."""

    MAKE_FOLDER = "make_folder"  # path
    MAKE_FILE = "make_file"  # path, size_bytes
    MAKE_QCOW2 = "make_qcow2"  # path, size_bytes; words: the backing, its format
    WRITE = "write_whole"  # path, text
    RENAME = "rename"  # path, target
    LINK = "link"  # path, target
    REMOVE = "remove"  # path
    REMOVE_TREE = "remove_tree"  # path
    WRITE_RESOURCE = "write_resource"  # path: a volume's lease
    # path: the folder to run in; words; target: the volume that it moves data into.
    QEMU_IMG = "qemu_img"
    # path: the volume; words: its format; text: the base image of the node that does it
    FILL = "fill"
    ALLOCATE = "allocate"  # path, size_bytes: take that space, and have that size
    WIPE = "wipe"  # path: overwrite what is allocated with zeros
    DEFINE = "define"  # path: a VM's definition; text: the change to it


PROGRAMS: Final = frozenset({Verb.QEMU_IMG, Verb.FILL, Verb.ALLOCATE, Verb.WIPE})
_NOT_FILES: Final = PROGRAMS | {Verb.WRITE_RESOURCE, Verb.DEFINE}


@dataclass(frozen=True, slots=True)
class Action:
    verb: Verb
    path: str
    target: str = ""
    text: str = ""
    size_bytes: int = 0
    words: tuple[str, ...] = ()

    @property
    def is_file(self) -> bool:
        return self.verb not in _NOT_FILES

    @property
    def storage_domain_id(self) -> str:
        return self.path.split("/")[1]

    def paths(self) -> Iterator[str]:
        """Yield every path that it names."""
        yield self.path
        if self.target or self.verb in (Verb.RENAME, Verb.LINK):
            yield self.target
        yield from (word for word in self.words if word.startswith("/"))

    def storage_domains(self) -> frozenset[str]:
        return frozenset(path.split("/")[1] for path in self.paths())


@dataclass(frozen=True, slots=True)
class Step:
    name: str
    do: tuple[Action, ...]
    undo: tuple[Action, ...] = ()
    # The first step after the commit point may be refused (a full storage): that
    # ends the operation, which is undone. A crash in it is finished all the same.
    may_refuse: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...] = ()  # none: it is so already
    commit: int = 0  # how many steps come before the commit point

    def way_back(self, done: int) -> Iterator[Action]:
        """Yield what undoes so many steps and the one under way, in order."""
        for step in reversed(self.steps[: done + 1]):
            yield from step.undo

    def actions(self) -> Iterator[Action]:
        """Yield every action, those that undo as well."""
        for step in self.steps:
            yield from (*step.do, *step.undo)

    def storage_domains(self) -> frozenset[str]:
        """Return the storage domains that it touches."""
        return frozenset(
            each for action in self.actions() for each in action.storage_domains()
        )


def make_folder(path: PurePosixPath) -> Action:
    """Make a folder."""
    return Action(Verb.MAKE_FOLDER, str(path))


def make_file(path: PurePosixPath, size_bytes: int) -> Action:
    """Make a file of zeros that takes no space."""
    return Action(Verb.MAKE_FILE, str(path), size_bytes=size_bytes)


def make_qcow2(path: PurePosixPath, size_bytes: int, *backing: str) -> Action:
    """Make a thin qcow2 file without data; `backing`: its name and its format."""
    return Action(Verb.MAKE_QCOW2, str(path), size_bytes=size_bytes, words=backing)


def write(path: PurePosixPath, text: str) -> Action:
    """Put a text in place, at once."""
    return Action(Verb.WRITE, str(path), text=text)


def rename(path: PurePosixPath, target: PurePosixPath) -> Action:
    """Rename; it never replaces."""
    return Action(Verb.RENAME, str(path), str(target))


def link(path: PurePosixPath, target: PurePosixPath) -> Action:
    """Give a file a second name."""
    return Action(Verb.LINK, str(path), str(target))


def remove(path: PurePosixPath) -> Action:
    """Remove a file that may be there."""
    return Action(Verb.REMOVE, str(path))


def remove_tree(path: PurePosixPath) -> Action:
    """Remove a workshop and all in it."""
    return Action(Verb.REMOVE_TREE, str(path))


def write_resource(path: PurePosixPath) -> Action:
    """Write the resource into a volume's lease."""
    return Action(Verb.WRITE_RESOURCE, str(path))


def qemu_img(folder: PurePosixPath, *words: object) -> Action:
    """Run qemu-img in a folder."""
    return Action(Verb.QEMU_IMG, str(folder), words=tuple(map(str, words)))


def move_data(volume: PurePosixPath, *words: object) -> Action:
    """Run qemu-img to move data into a volume, in its folder: any node may do it.

    It is ILLEGAL, or in a workshop, until the step has ended; and running it again
    gives the same.
    """
    return Action(
        Verb.QEMU_IMG, str(volume.parent), str(volume), words=tuple(map(str, words))
    )


def fill(path: PurePosixPath, volume_format: str, image: str) -> Action:
    """Copy a base image into a volume that reads as zeros, and is no smaller.

    Only who planned it has the image: nobody else goes on with it.
    """
    return Action(Verb.FILL, str(path), text=image, words=(volume_format,))


def allocate(path: PurePosixPath, size_bytes: int) -> Action:
    """Give a file space up to a size, and make it that large."""
    return Action(Verb.ALLOCATE, str(path), size_bytes=size_bytes)


def wipe(path: PurePosixPath) -> Action:
    """Overwrite what a file has allocated."""
    return Action(Verb.WIPE, str(path))


def joined(plan: Plan) -> Plan:
    """Return a plan with the steps before the commit point in one, if that is quick.

    They are undone together anyway, each whether it was begun or not; so noting that
    one of them is done tells nobody anything, and costs two waits for the disk. A
    program may take long: what comes before it is then a step, after which the
    manager asks whether a guest runs.
    """
    before, rest = plan.steps[: plan.commit], plan.steps[plan.commit :]
    has_program = any(each.verb in PROGRAMS for step in before for each in step.do)
    if len(before) < _SEVERAL or has_program:
        return plan
    step = Step(
        ", ".join(each.name for each in before),
        tuple(action for each in before for action in each.do),
        tuple(action for each in reversed(before) for action in each.undo),
    )
    return Plan((step, *rest), commit=1)


def check(plan: Plan) -> None:
    """Refuse what no operation plans: a journal comes from a shared storage."""
    if not 0 <= plan.commit <= len(plan.steps):
        raise BadPlan("the plan commits outside of its steps")
    for step in plan.steps:
        if any(action.verb in PROGRAMS | {Verb.DEFINE} for action in step.undo):
            raise BadPlan(f"step {step.name[:80]!a} is undone by what cannot undo")
    for action in plan.actions():
        check_action(action)


def check_action(action: Action) -> None:
    """Refuse an action that no operation plans; BadPlan."""
    paths = list(action.paths())
    if not all(map(_is_path, paths)):
        raise BadPlan(f"{ascii(paths)[:200]} lie in no storage domain")
    if action.is_file and len({path.split("/")[1] for path in paths}) > 1:
        raise BadPlan(f"{action.verb} leads to another storage domain")
    if action.words and not _are_ours(action):
        raise BadPlan(f"{ascii(action.words)[:200]} are no words of ours")
    if action.verb is Verb.WRITE_RESOURCE and volume_of(action.path) is None:
        raise BadPlan(f"{action.path[:80]!a} is no volume's lease")
    if action.verb is Verb.FILL and not layout.is_base_image(action.text):
        raise BadPlan(f"{action.text[:80]!a} is no name of a base image")
    if action.verb is Verb.QEMU_IMG and action.target and not _is_filled(action):
        raise BadPlan(f"{ascii(action.words)[:200]} do not fill the volume named")


def may_be_assigned(action: Action) -> bool:
    """Tell whether another node than the manager may carry it out."""
    return action.verb is Verb.QEMU_IMG and bool(action.target)


def volume_of(path: str) -> str | None:
    """Return the volume whose lease lies there; None if it is no lease."""
    found = layout.read_volume_name(PurePosixPath(path).name)
    is_lease = found is not None and found.part is layout.VolumePart.LEASE
    return found.volume_id if found is not None and is_lease else None


def is_path(word: str) -> bool:
    """Tell whether a program's word is a path in a storage domain."""
    return word.startswith("/") and _is_path(word)


# Options, ids and sizes: no protocol, no JSON, and paths only in storage domains.
_WORD: Final = re.compile(r"[A-Za-z0-9_=,.-]{1,200}")
_SEVERAL: Final = 2
_BACKING: Final = 2  # words: the volume, and its format
_KINDS: Final = frozenset({"raw", "qcow2"})
_COMMANDS: Final = frozenset({"create", "convert", "commit", "rebase", "resize"})
_NEW: Final = ".new"  # what is filled to take a volume's place


def _are_ours(action: Action) -> bool:
    words = action.words
    if action.verb is Verb.MAKE_QCOW2:
        return len(words) == _BACKING and layout.is_id(words[0]) and words[1] in _KINDS
    if action.verb is Verb.FILL:
        return len(words) == 1 and words[0] in _KINDS
    return words[0] in _COMMANDS and all(
        is_path(word) or _WORD.fullmatch(word) for word in words
    )


def _is_filled(action: Action) -> bool:
    """Tell whether a program's volume lies in its folder, and is what it writes.

    What `commit` writes is said by a header; the last word names the one above.
    """
    path = PurePosixPath(action.target)
    if str(path.parent) != action.path or not layout.is_id(path.name):
        return False
    command, last = action.words[0], action.words[-1]
    if command == "convert":
        return last in (path.name, f"{path.name}{_NEW}")
    return command == "commit" and layout.is_id(last) and last != path.name


def _is_path(path: str) -> bool:
    first, *parts = path.split("/")
    return (
        first == ""
        and len(parts) > 1
        and layout.is_id(parts[0])
        and all(part not in ("", ".", "..") and "\0" not in part for part in parts)
    )
