"""Find what would end guests behind our back.

Debian's libvirt-guests.service suspends or stops every guest when the host shuts
down, and starts them again when it boots: two would then decide what runs. Source:
libvirt-guests(8); systemd.unit(5) for the folders.
"""

from typing import Final

from node.clock import Clock, rfc3339
from node.model.reason import Reason
from node.system.procfs import Procfs

_UNIT: Final = "*libvirt-guests.service"  # a pattern also finds links to nowhere
_UNITS: Final = ("/etc/systemd/system", "/run/systemd/system")
_WANTS: Final = tuple(f"{folder}/multi-user.target.wants" for folder in _UNITS)
_ACTIVE: Final = "/run/systemd/units"  # a link for each unit that was started


def find(procfs: Procfs, clock: Clock) -> Reason | None:
    """Return that libvirt-guests will act at the next shutdown, if so."""
    is_enabled = _has(procfs, _WANTS) and not _is_masked(procfs)
    if not is_enabled and not _has(procfs, (_ACTIVE,)):
        return None
    return Reason("libvirt_guests_on", rfc3339(clock.now()))


def _has(procfs: Procfs, folders: tuple[str, ...]) -> bool:
    return any(procfs.paths(folder, _UNIT) for folder in folders)


def _is_masked(procfs: Procfs) -> bool:
    """Tell whether the unit is replaced by an empty one: a link to /dev/null."""
    return any(
        not procfs.text(path)
        for folder in _UNITS
        for path in procfs.paths(folder, _UNIT)
    )
