"""Run the checks of storage and VMs on kernel NFS and 4 KiB sectors, each in a VM.

`make test` runs what takes three minutes; `make test-nfs` all of it (SKERRY_ALL_NFS=1).
"""

import os
import sys

import pytest

from tests.lab import layout, machine_vm, requirements

LACKS = [*requirements.missing_for_vm(), *requirements.missing_for_nfs()]
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(LACKS), reason=requirements.describe(LACKS)),
]
TAKES_ALL = bool(os.environ.get("SKERRY_ALL_NFS"))

FOLDER = "tests/lab/throwaway"
TIMEOUT_S = 3600.0
# All points of a power cut keep their disks in memory.
MEMORY_MIB = 3072 if TAKES_ALL else 1536
# The short part mostly waits. It takes 90 s of processor time, which others want at the
# same time, on one processor that has no AVX to emulate.
CPUS, PROCESSOR = (2, "max") if TAKES_ALL else (1, "Nehalem,+rdrand")
# Few plugins and no rewritten assertions: the VM's processor is a slow one.
ENVIRONMENT = ("env", "-C", str(layout.CHECKOUT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1")
PYTEST = (
    *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-rP", "--durations=9"),
    *("-o", "addopts=", "--noconftest", "-p", "no:cacheprovider"),
    *("-p", "tests.lab.throwaway.scene"),
)


def run(*words: str) -> None:
    """Run checks in a VM, and show what they say."""
    done = machine_vm.run(
        [*ENVIRONMENT, *words],
        timeout_s=TIMEOUT_S,
        memory_mib=MEMORY_MIB,
        cpus=CPUS,
        processor=PROCESSOR,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0


CHECKS = (*PYTEST, f"{FOLDER}/nfs_checks.py")
SHORT = {"checks": (*CHECKS, "-k", "not made_and_removed and not stopped")}
ALL = {
    "checks": CHECKS,
    "guests": (*PYTEST, f"{FOLDER}/qemu_checks.py"),
    "power": (*PYTEST, f"{FOLDER}/power_checks.py"),
    "contracts": (sys.executable, "-m", "tests.lab.throwaway.contracts", *PYTEST),
}
PARTS = ALL if TAKES_ALL else SHORT


@pytest.mark.parametrize("part", PARTS)
def test_storage_on_kernel_nfs_and_large_sectors(part: str) -> None:
    run(*PARTS[part])
