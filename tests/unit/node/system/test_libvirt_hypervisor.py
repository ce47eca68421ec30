"""What libvirt's replies mean to us."""

import errno

import libvirt
import pytest

from node.errors import Error
from node.system import libvirt_hypervisor
from node.system.hypervisor import (
    Activity,
    DeviceMissing,
    DomainExists,
    DomainLeased,
    DomainMissing,
    DomainRefused,
    FileForbidden,
    GuestSilent,
    HypervisorDown,
    HypervisorRefused,
)


@pytest.mark.parametrize(
    ("state", "reason", "activity"),
    [
        pytest.param(
            libvirt.VIR_DOMAIN_RUNNING,
            libvirt.VIR_DOMAIN_RUNNING_BOOTED,
            Activity.RUNNING,
            id="running",
        ),
        pytest.param(
            libvirt.VIR_DOMAIN_PAUSED,
            libvirt.VIR_DOMAIN_PAUSED_USER,
            Activity.PAUSED,
            id="paused",
        ),
        pytest.param(
            libvirt.VIR_DOMAIN_PAUSED,
            libvirt.VIR_DOMAIN_PAUSED_IOERROR,
            Activity.FAULTED,
            id="disk-error",
        ),
        pytest.param(
            libvirt.VIR_DOMAIN_PAUSED,
            libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
            Activity.STARTING,
            id="starting",
        ),
        pytest.param(libvirt.VIR_DOMAIN_SHUTOFF, 0, Activity.OFF, id="off"),
    ],
)
def test_read_activity_knows_why_it_is_paused(
    state: int, reason: int, activity: Activity
) -> None:
    assert libvirt_hypervisor.read_activity(state, reason) is activity


def _error(
    code: int, domain: int, message: str, number: int = 0
) -> libvirt.libvirtError:
    error = libvirt.libvirtError(message)
    error.err = (code, domain, message, 2, None, None, None, number, 0)
    return error


@pytest.mark.parametrize(
    ("code", "domain", "message", "kind"),
    [
        pytest.param(
            libvirt.VIR_ERR_NO_DOMAIN, 10, "no domain", DomainMissing, id="missing"
        ),
        pytest.param(
            libvirt.VIR_ERR_INTERNAL_ERROR,
            libvirt.VIR_FROM_RPC,
            "client socket is closed",
            HypervisorDown,
            id="connection-broke",
        ),
        pytest.param(
            libvirt.VIR_ERR_OPERATION_FAILED,
            10,
            "domain 'web' already exists with uuid x",
            DomainExists,
            id="name-is-taken",
        ),
        pytest.param(
            libvirt.VIR_ERR_OPERATION_INVALID, 10, "x", DomainRefused, id="state"
        ),
        pytest.param(
            libvirt.VIR_ERR_AGENT_UNRESPONSIVE, 10, "x", GuestSilent, id="no-agent"
        ),
        pytest.param(libvirt.VIR_ERR_RESOURCE_BUSY, 10, "x", DomainLeased, id="leased"),
        pytest.param(
            libvirt.VIR_ERR_DEVICE_MISSING, 10, "x", DeviceMissing, id="no-device"
        ),
        pytest.param(
            libvirt.VIR_ERR_INTERNAL_ERROR, 10, "x", HypervisorRefused, id="others"
        ),
    ],
)
def test_translate_names_the_error(
    code: int, domain: int, message: str, kind: type[Error]
) -> None:
    told = libvirt_hypervisor.translate(_error(code, domain, message))
    assert type(told) is kind
    assert str(told).endswith(message)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        pytest.param(errno.EACCES, FileForbidden, id="forbidden"),
        pytest.param(errno.EIO, HypervisorRefused, id="others"),
    ],
)
def test_translate_tells_what_the_file_system_forbids(
    number: int, kind: type[Error]
) -> None:
    code, message = libvirt.VIR_ERR_SYSTEM_ERROR, "Unable to access a"
    assert type(libvirt_hypervisor.translate(_error(code, 0, message, number))) is kind
