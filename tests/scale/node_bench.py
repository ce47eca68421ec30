"""Measure an agent: memory, figures, and what a start costs beside libvirt's own.

Memory and figures are taken on libvirt's `test` driver, which lives in the agent
itself; what it needs is measured apart, in a process that has nothing else.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from node.contract.volumes import open_all
from node.http.client import NodeClient, NodeUnreachable, UnixTransport
from node.model.ids import DiskId, VmId
from node.model.requests import CreateVm, StartVm
from node.model.vm import Disk, Vm, VmSpec, VmState
from node.units import MiB
from node.vm import domxml
from tests.scale import daemon, lab_host, processes, simulated, start_cost
from tests.scale.aggregator_bench import Effort
from tests.scale.daemon import Daemon
from tests.scale.figures import Figure, Section
from tests.scale.simulated_hypervisor import URI, for_test_driver, pool

log = logging.getLogger(__name__)

VMS: Final = 100
MB: Final = 1_000_000
_REST_LIMIT_MB: Final = 80.0
_VM_LIMIT_MB: Final = 0.2
_RATIO_LIMIT: Final = 1.10
_HOOK_LIMIT_MS: Final = 60.0
_OWN_LIMIT_MS: Final = 50.0
# Often, so that what a sample costs is more than what else the agent does.
_STATS_INTERVAL_S: Final = 1.0
_SETTLE_S: Final = 10.0
_START_S: Final = 60.0
_STARTS: Final = 5  # of the agent itself
_UP_LIMIT_S: Final = 2.0
# What an agent may say of the machine that the bench runs on.
_OF_MACHINE: Final = frozenset({"libvirt_guests_on"})
_START_COST_S: Final = 600.0  # 15 emulated starts of each kind on a busy machine
_CONFIG: Final = """\
[node]
node_id = 5ca1ab1e-0001-4000-8000-000000000000
name = bench
address = 127.0.0.1
state_folder = {folder}/state
local_storage =
run_folder = {folder}/run
libvirt_uri = {uri}
emulation = always
udev_source = kernel
stats_interval_s = {interval}
guest_wait_s = 1
log_level = WARNING
"""


@dataclass(frozen=True, slots=True)
class Share:
    """What the test driver itself takes for the same domains."""

    empty_bytes: int
    full_bytes: int

    @property
    def domains_bytes(self) -> int:
        return self.full_bytes - self.empty_bytes


def measure(folder: Path, effort: Effort) -> Section:
    """Return the memory of an agent with and without VMs, and its figures' cost."""
    folder.mkdir()
    path = folder / "node.conf"
    path.write_text(_CONFIG.format(folder=folder, uri=URI, interval=_STATS_INTERVAL_S))
    argv = [sys.executable, "-m", "tests.scale.simulated_hypervisor", str(path)]
    client = NodeClient(UnixTransport(folder / "run" / "local.sock"))
    ups_s = [_time_up(argv, folder, client) for _ in range(_STARTS)]
    with Daemon(argv, folder / "agent.log") as agent:
        daemon.wait("the agent", lambda: _is_up(agent, client), _START_S)
        time.sleep(_SETTLE_S)
        empty, empty_cpu = agent.usage(), _cpu_percent(agent, effort.window_s / 2)
        _start_vms(client)
        time.sleep(_SETTLE_S)
        full_cpu = _cpu_percent(agent, effort.window_s / 2)
        full = agent.usage()
        share = _driver_share([entry.vm for entry in client.vm_list().vms], folder)
    sample_s = (full_cpu - empty_cpu) / 100 * _STATS_INTERVAL_S / VMS
    grown = full.rss_bytes - empty.rss_bytes
    return Section(
        f"Node: the agent at rest and with {VMS} VMs (libvirt's test driver)",
        (
            up_figure(ups_s),
            Figure("memory at rest (RSS)", empty.rss_bytes / MB, "MB", _REST_LIMIT_MB),
            Figure("memory at rest (PSS)", empty.pss_bytes / MB, "MB"),
            Figure(f"memory with {VMS} VMs (RSS)", full.rss_bytes / MB, "MB"),
            Figure(
                "of it, the test driver's share",
                share.domains_bytes / MB,
                "MB",
                note=f"{share.empty_bytes / MB:.0f} MB is Python with libvirt alone",
            ),
            Figure(
                "memory of ours for each VM",
                (grown - share.domains_bytes) / VMS / MB,
                "MB",
                _VM_LIMIT_MB,
            ),
            Figure("threads", full.threads, ""),
            Figure(
                "CPU for a VM's figures, once",
                sample_s * 1_000_000,
                "µs",
                note=f"{sample_s * VMS / 15 * 100:.2f} % of a core for all, each 15 s",
            ),
        ),
    )


def measure_start(repetitions: int) -> Section:
    """Return what a start costs on a host of the lab; needs root."""
    with lab_host.booted("bench") as host:
        time.sleep(_SETTLE_S)
        resting = processes.usage(host.service_pid("agent"))
        text = lab_host.run_inside(
            host, "start_cost", str(repetitions), timeout_s=_START_COST_S
        )
        usage = processes.usage(host.service_pid("agent"))
    return start_section(json.loads(text), resting, usage)


def start_section(
    times: Mapping[str, Sequence[float]],
    resting: processes.Usage,
    agent: processes.Usage,
) -> Section:
    """Return the figures of the times that `start_cost` prints, and of the agent.

    It was `resting` before, with storage of its own.
    """
    raw, api = median(times["raw_s"]), median(times["api_s"])
    return Section(
        "Node: starting a VM (real QEMU, emulated, in the lab)",
        (
            Figure("libvirt alone, median", raw * 1000, "ms"),
            Figure(
                "through our API, median",
                api * 1000,
                "ms",
                note=f"{len(times['api_s'])} of each, in turn",
            ),
            Figure("ours over libvirt's", api / raw, "×", _RATIO_LIMIT),
            Figure("of our own", (api - raw) * 1000, "ms", _OWN_LIMIT_MS),
            Figure(
                "of it, until the request is answered",
                median(times["answer_s"]) * 1000,
                "ms",
            ),
            Figure(
                f"each of {start_cost.HOOKS} hooks in Python adds to it",
                (median(times["hooked_s"]) - api) * 1000 / start_cost.HOOKS,
                "ms",
                _HOOK_LIMIT_MS,
                note=f"{median(times['script_s']) * 1000:.0f} ms is its interpreter",
            ),
            Figure(
                "asking libvirt and QEMU for one VM's figures, median",
                median(times["figures_s"]) * 1000,
                "ms",
            ),
            Figure(
                "the agent's memory at rest, with storage (RSS)",
                resting.rss_bytes / MB,
                "MB",
                _REST_LIMIT_MB,
            ),
            Figure(
                "the agent's memory at rest, with storage (PSS)",
                resting.pss_bytes / MB,
                "MB",
            ),
            Figure("the agent's memory afterwards (RSS)", agent.rss_bytes / MB, "MB"),
            Figure("the agent's memory afterwards (PSS)", agent.pss_bytes / MB, "MB"),
        ),
    )


def up_figure(ups_s: Sequence[float]) -> Figure:
    """Return the figure of the times that starts of an agent took."""
    return Figure(
        "start until it answers, median",
        median(ups_s),
        "s",
        _UP_LIMIT_S,
        note=f"{len(ups_s)} starts, from {min(ups_s):.2f} to {max(ups_s):.2f} s",
    )


def _time_up(argv: Sequence[str], folder: Path, client: NodeClient) -> float:
    """Return how long an agent takes until it answers, and sees libvirt."""
    begin = time.monotonic()
    with Daemon(argv, folder / "agent.log") as agent:
        daemon.wait("the agent", lambda: _is_up(agent, client), _START_S)
        return time.monotonic() - begin


def _is_up(agent: Daemon, client: NodeClient) -> bool:
    agent.check()
    try:
        problems = {each.code for each in client.status().problems}
    except NodeUnreachable:
        return False
    return problems <= _OF_MACHINE


def _cpu_percent(agent: Daemon, window_s: float) -> float:
    before = agent.usage()
    time.sleep(window_s)
    return processes.cpu_percent(before, agent.usage())


def _start_vms(client: NodeClient) -> None:
    for number in range(VMS):
        client.vm_create(CreateVm(_spec(number)))
        start_cost.finish(client, client.vm_start(simulated.vm_id(number), StartVm()))
    daemon.wait(
        "all VMs up",
        lambda: all(each.run.state is VmState.UP for each in client.vm_list().vms),
        _START_S,
    )


def _spec(number: int) -> VmSpec:
    # no network card: a bridge would have to be made on this machine
    return VmSpec(
        VmId(simulated.vm_id(number)),
        simulated.vm_name(number),
        64 * MiB,
        disks=(Disk(DiskId(simulated.disk_id(number)), "disk1", MiB),),
    )


def _xml(vm: Vm, folder: Path) -> str:
    opened = open_all(pool(), vm.spec)
    host = domxml.Host(True, folder / "serial.log", opened)
    return domxml.build(vm, vm.spec.name, host)


def _driver_share(vms: Sequence[Vm], folder: Path) -> Share:
    """Return what a process needs for these domains and nothing else."""
    xmls = [for_test_driver(_xml(vm, folder)) for vm in vms]
    argv = [sys.executable, "-m", "tests.scale.driver_share", URI]
    with Daemon(argv, folder / "share.log", has_pipes=True) as holder:
        holder.input.write(json.dumps(xmls).encode() + b"\n")
        found = []
        for _ in range(2):
            holder.input.flush()
            holder.output.readline()
            found.append(holder.usage().rss_bytes)
            holder.input.write(b"\n")
    return Share(*found)
