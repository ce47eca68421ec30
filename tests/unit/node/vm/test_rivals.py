"""Whether something ends guests behind our back."""

from pathlib import Path

import pytest

from node.system.procfs import KernelProcfs
from node.vm import rivals
from tests.fakes.clock import FakeClock
from tests.fakes.procfs import FakeProcfs

_WANTS = "/etc/systemd/system/multi-user.target.wants/libvirt-guests.service"
_RUNTIME = "/run/systemd/system/multi-user.target.wants/libvirt-guests.service"
_ACTIVE = "/run/systemd/units/invocation:libvirt-guests.service"
_UNIT = "/etc/systemd/system/libvirt-guests.service"


@pytest.mark.parametrize(
    ("texts", "existing", "is_found"),
    [
        pytest.param({}, [], False, id="not-there"),
        pytest.param({_WANTS: "[Unit]"}, [], True, id="enabled"),
        pytest.param({_RUNTIME: "[Unit]"}, [], True, id="enabled-until-the-reboot"),
        pytest.param({_WANTS: "[Unit]"}, [_UNIT], False, id="masked"),
        pytest.param({_WANTS: "[Unit]", _UNIT: "[Unit]"}, [], True, id="overridden"),
        pytest.param({}, [_ACTIVE], True, id="active"),
        pytest.param({}, [_ACTIVE, _UNIT], True, id="active-though-masked"),
        pytest.param({}, ["/run/systemd/units/invocation:x.service"], False, id="x"),
    ],
)
def test_find_tells_whether_it_will_act(
    texts: dict[str, str], existing: list[str], is_found: bool
) -> None:
    procfs = FakeProcfs(texts=texts, existing=existing)
    found = rivals.find(procfs, FakeClock())
    assert (found is not None and found.code == "libvirt_guests_on") is is_found


def test_find_sees_links_to_nowhere(tmp_path: Path) -> None:
    """What systemd notes of an active unit is a link to no file."""
    (tmp_path / "invocation:libvirt-guests.service").symlink_to("0123456789abcdef")
    assert KernelProcfs().paths(str(tmp_path), rivals._UNIT)
