"""Plan the removal of what was exported: renamed, then purged.

Pure. The document goes first and its folder with it, so that nobody finds a VM whose
disks are going. Nothing comes back from the commit point on.

    retire ║ purge
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

from node.storage.operations import delete, plan
from node.storage.operations.facts import Place
from node.storage.operations.plan import Plan, Step


def make(folder: PurePosixPath, away: PurePosixPath, places: Sequence[Place]) -> Plan:
    """Return the plan; `away` is what the folder with the document is called then.

    Raises DiskGoing.
    """
    for place in places:
        place.check_remains()
    names = [(folder, away), *((each.folder, each.workshop) for each in places)]
    retire = Step(
        "retire",
        tuple(plan.rename(old, new) for old, new in names),
        tuple(plan.rename(new, old) for old, new in reversed(names)),
    )
    purges = (step for each in places for step in delete.purge(each, is_wiped=False))
    steps = (retire, Step("purge document", (plan.remove_tree(away),)), *purges)
    return Plan(steps, commit=1)
