"""Plan the export of a VM: copies of its disks beside a description that names them.

Pure. All lies on an export storage domain as oVirt has it. The description is there
under another name before the commit point, so that no full storage stops what has
been decided; it gets its own after the disks, for whoever reads it finds them all.

    freeze │ build, one disk at a time │ describe ║ publish, thaw
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from node.storage.operations import clone, plan
from node.storage.operations.clone import Twin
from node.storage.operations.plan import Plan, Step

_NEW: Final = ".new"


def make(twins: Sequence[Twin], path: PurePosixPath, text: str) -> Plan:
    """Return the plan; the description `text` comes to lie at `path`. As `copy.make`.

    Its folder is made, and taken away when the export is undone.
    """
    made = clone.copies(twins)
    unnamed = path.with_name(f"{path.name}{_NEW}")
    describe = Step(
        "describe",
        (plan.make_folder(path.parent), plan.write(unnamed, text)),
        (plan.remove(unnamed), plan.remove(path.parent)),
    )
    steps = (*made.steps, describe)
    rest = [Step("publish", (*made.publish, plan.rename(unnamed, path)))]
    rest += [Step("thaw", made.thaw)] if made.thaw else []
    return Plan((*steps, *rest), commit=len(steps))
