"""Compare a start through our API with libvirt's own, on a host with real QEMU.

Runs inside a host of the lab, beside its agent: `… start_cost REPETITIONS`. The
same VM is started in turn through the agent's socket, so once more with hooks, and by
libvirt alone, from the XML that the agent made. Prints JSON, times in seconds.
"""

import contextlib
import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import libvirt
from lxml import etree

from node import wire
from node.http.client import NodeClient, UnixTransport
from node.model.ids import DiskId, JobId, NicId, VmId
from node.model.job import ENDED, Job, JobState
from node.model.requests import CreateVm, DeleteVm, StartVm, StopManner, StopVm
from node.model.vm import Disk, Nic, VmSpec
from node.system.libvirt_hypervisor import LibvirtHypervisor
from node.units import MiB
from tests.scale import daemon, lab_host

SOCKET: Final = Path(lab_host.SOCKET)
URI: Final = "qemu:///system"
HOOKS: Final = 10
_HOOKS: Final = Path("/etc/skerry/hooks/before_vm_start")
_SCRIPT: Final = f"""#!{sys.executable}
import hooking
hooking.write_domxml(hooking.read_domxml())
"""
# What such a script imports, without us.
_SCRIPT_ALONE: Final = "from xml.dom import minidom; import subprocess, json"
_READY_S: Final = 60.0
_WAIT_S: Final = 20.0
_SAMPLES: Final = 10  # of the VM's figures, each time it runs
_SPEC: Final = VmSpec(
    VmId("5ca1ab1e-0002-4000-8000-000000000000"),
    "start-cost",
    64 * MiB,
    disks=(Disk(DiskId("5ca1ab1e-0006-4000-8000-000000000000"), "disk1", 64 * MiB),),
    nics=(
        Nic(
            NicId("5ca1ab1e-0007-4000-8000-000000000000"),
            "nic1",
            "56:6f:1a:00:00:00",
            "ovirtmgmt",
        ),
    ),
)


def measure(client: NodeClient, repetitions: int) -> dict[str, list[float]]:
    """Return the times of each way to start, of the answer, and of figures."""
    connection = libvirt.open(URI)
    door = LibvirtHypervisor(URI)
    door.open(lambda event: None, lambda is_connected: None)
    client.vm_create(CreateVm(_SPEC))
    names = ("raw_s", "api_s", "answer_s", "figures_s", "hooked_s", "script_s")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repetitions):
        begin = time.perf_counter()
        job = client.vm_start(_SPEC.vm_id, StartVm())
        times["answer_s"].append(time.perf_counter() - begin)
        finish(client, job)
        times["api_s"].append(time.perf_counter() - begin)
        times["figures_s"] += [_sample(door) for _ in range(_SAMPLES)]
        domain = connection.lookupByUUIDString(_SPEC.vm_id)
        xml = renamed(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        stop = StopVm(manner=StopManner.FORCE)
        finish(client, client.vm_stop(_SPEC.vm_id, stop))
        begin = time.perf_counter()
        domain = connection.createXML(xml, 0)
        times["raw_s"].append(time.perf_counter() - begin)
        domain.destroy()
        with hooked():
            begin = time.perf_counter()
            finish(client, client.vm_start(_SPEC.vm_id, StartVm()))
            times["hooked_s"].append(time.perf_counter() - begin)
            finish(client, client.vm_stop(_SPEC.vm_id, stop))
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", _SCRIPT_ALONE], check=True)
        times["script_s"].append(time.perf_counter() - begin)
    finish(client, client.vm_delete(_SPEC.vm_id, DeleteVm()))
    connection.close()
    door.close()
    return times


@contextlib.contextmanager
def hooked() -> Iterator[None]:
    """Have HOOKS scripts run before a start, each of which leaves the XML as it is."""
    _HOOKS.mkdir(parents=True)
    for number in range(HOOKS):
        script = _HOOKS / f"{number:02}_same"
        script.write_text(_SCRIPT)
        script.chmod(0o755)
    try:
        yield
    finally:
        shutil.rmtree(_HOOKS)


def _sample(door: LibvirtHypervisor) -> float:
    """Return the time to ask for the VM's figures: both calls that the agent makes."""
    begin = time.perf_counter()
    for needs_monitor in (False, True):
        found = door.sample([_SPEC.vm_id], needs_monitor=needs_monitor)
        assert found, "the VM runs"
    return time.perf_counter() - begin


def wait_ready(client: NodeClient) -> None:
    """Wait until the agent knows what its QEMU can do."""
    daemon.wait("a node with machine types", lambda: client.node().machines, _READY_S)


def finish(client: NodeClient, job: Job) -> Job:
    """Return the job once it has ended; StepFailed if it did not succeed."""
    deadline = time.monotonic() + 3 * _WAIT_S
    while job.state not in ENDED and time.monotonic() < deadline:
        job = client.job_show(JobId(job.job_id), _WAIT_S)
    if job.state is not JobState.DONE:
        raise daemon.StepFailed(f"{job.verb} is {job.state}: {job.error}")
    return job


def renamed(xml: str) -> str:
    """Return the XML of another domain, so that the agent takes it for foreign."""
    domain = etree.fromstring(xml)
    for path, text in (("name", "start-cost-raw"), ("uuid", str(uuid.uuid4()))):
        found = domain.find(path)
        assert found is not None, f"a domain has a {path}"
        found.text = text
    for found in domain.findall("metadata"):
        domain.remove(found)
    return etree.tostring(domain, encoding="unicode")


def main() -> None:
    """Measure, and print the times."""
    client = NodeClient(UnixTransport(SOCKET))
    wait_ready(client)
    print(json.dumps(wire.to_json(measure(client, int(sys.argv[1])))))


if __name__ == "__main__":
    main()
