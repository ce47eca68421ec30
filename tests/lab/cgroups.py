"""Give each member a cgroup of its own, on v1, hybrid and v2-only machines.

Every process of a lab is put there before it does anything else, so the cgroups
are the one complete list of a lab's processes, whoever crashed meanwhile.

    v1, hybrid   /sys/fs/cgroup/<controller>/skerry-<id>/<member>
    v2 only      /sys/fs/cgroup/skerry-<id>/<member>/init   processes
                                                  /machine  guests, made by libvirt

On v2 a group that hands controllers down may hold no process itself: hence init.
Source: cgroups(7), cgroup_namespaces(7).
"""

import os
import signal
import time
from pathlib import Path

from tests.lab import command, errors, polling, processes

ROOT = Path("/sys/fs/cgroup")
_REMOVE_TIMEOUT_S = 5.0  # a group stays busy for an instant after its last process

# A group competes as one process does: without more weight, a busy machine gives all
# hosts and guests of a lab together the time of one of its own processes.
_WEIGHTS = {"cpu.shares": 16 * 1024, "cpu.weight": 16 * 100}  # v1, v2

_KILL_TIMEOUT_S = 10.0

# Join the groups of the first argument, then become the rest. A group's list finds us
# from now on: the lock that led here is let go (bash can close any descriptor).
_JOIN = (
    'for group in $1; do echo $$ >"$group/cgroup.procs" || exit 71; done; shift; '
    f'for held in ${command.INHERITED}; do eval "exec $held>&-"; done; exec "$@"'
)


def is_unified_only() -> bool:
    """Tell whether the machine has cgroup v2 and nothing else."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """Return the root of each mounted hierarchy; links to one count once."""
    if is_unified_only():
        return [ROOT]
    found = {path.parent.resolve() for path in ROOT.glob("*/cgroup.procs")}
    return sorted(found)


def create(prefix: str, member: str) -> None:
    """Make a member's group in every hierarchy, with every controller in reach."""
    for root in hierarchies():
        group = root / prefix / member
        group.mkdir(parents=True, exist_ok=True)
        if (root / "cgroup.controllers").exists():
            _hand_down(root)
            _hand_down(group.parent)
            if is_unified_only():
                (group / "init").mkdir(exist_ok=True)
        elif (root / "cpuset.cpus").exists():
            for level in (group.parent, group):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (level / name).write_text((root / name).read_text())
        for name, weight in _WEIGHTS.items():
            if (group.parent / name).exists():
                (group.parent / name).write_text(str(weight))


def joining(prefix: str, member: str) -> list[str]:
    """Return the words that make the command after them join the member's group."""
    return _join([root / prefix / member for root in hierarchies()])


def joining_namespace(prefix: str, member: str) -> list[str]:
    """Return the words that also make a cgroup namespace with the group as root."""
    words = [*joining(prefix, member), "unshare", "--cgroup"]
    if is_unified_only():
        words += _join([ROOT / prefix / member / "init"])
    return words


def joining_again(prefix: str, member: str) -> list[str]:
    """Return the words that make a command join a member that runs already."""
    if is_unified_only():
        return _join([ROOT / prefix / member / "init"])
    return joining(prefix, member)


def members(prefix: str, member: str = "") -> list[processes.Identity]:
    """Return the processes below a group; no member: those of the whole lab."""
    pids: set[int] = set()
    for root in hierarchies():
        for path in (root / prefix / member).rglob("cgroup.procs"):
            try:
                pids.update(int(line) for line in path.read_text().split())
            except (FileNotFoundError, OSError):
                continue  # the group went while we looked: its processes did too
    identities = (processes.identify(pid) for pid in pids - {0, os.getpid()})
    return [identity for identity in identities if identity is not None]


def destroy(prefix: str, member: str = "") -> list[Path]:
    """SIGKILL all processes below a group and remove it; return what stayed.

    A process may join while we look: it is killed in the next round, or finds no
    group to join any more.
    """

    def is_gone() -> bool:
        _kill(prefix, member)
        return not _try_remove(prefix, member)

    polling.until(is_gone, _REMOVE_TIMEOUT_S)
    return _try_remove(prefix, member)


def _kill(prefix: str, member: str) -> None:
    deadline = time.monotonic() + _KILL_TIMEOUT_S
    while left := members(prefix, member):
        if time.monotonic() > deadline:
            raise errors.TimedOut(
                member or prefix,
                f"processes {[identity.pid for identity in left]} survived SIGKILL",
                remedy="see with ps what they wait for; then: python -m tests.lab down",
            )
        for identity in left:
            processes.send(identity, signal.SIGKILL)
        processes.wait_gone(left[0], _KILL_TIMEOUT_S)


def _try_remove(prefix: str, member: str) -> list[Path]:
    return [
        group
        for root in hierarchies()
        if (top := root / prefix / member).is_dir()
        for group in _bottom_up(top)
        if not _is_removed(group)
    ]


def _join(groups: list[Path]) -> list[str]:
    text = " ".join(os.fspath(group) for group in groups)
    return ["/bin/bash", "-c", _JOIN, "join", text]


def _hand_down(group: Path) -> None:
    """Enable every controller for a group's children that can be enabled."""
    for controller in (group / "cgroup.controllers").read_text().split():
        try:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            # Some cannot be shared (a real-time group, a busy parent): the members
            # do without, as they do on a machine that lacks the controller.
            continue


def _bottom_up(top: Path) -> list[Path]:
    return [Path(path) for path, _, _ in os.walk(top, topdown=False)]


def _is_removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
