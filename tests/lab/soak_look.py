"""Look at a whole fleet during a soak: what is said, and what really runs."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aggregator.api import verbs
from aggregator.api.model import EventLines
from aggregator.cli.client import FleetClient
from node import wire
from node.model.event import Event
from node.model.ids import VmId
from node.model.job import ENDED
from node.model.requests import VmList
from node.model.storage_requests import DiskList
from tests.lab import errors, fleet, members, running
from tests.lab.lab import Lab
from tests.lab.soak_checks import Observation, SeenEvent, ToldVm

_EVENTS_MAX = 1000  # as many as the aggregator gives at once
_READ = ("agent", "aggregator", "nginx")  # whose logs are read


class Looker:
    """Remembers how far it has read, so that everything is seen once."""

    def __init__(self, one: fleet.Fleet, client: FleetClient) -> None:
        self._fleet = one
        self._client = client
        self._read_to: dict[Path, int] = {}
        self.events: list[SeenEvent] = []

    def observe(self) -> Observation:
        """Ask everybody; errors of whoever does not answer pass through."""
        names = [host.name for host in self._fleet.hosts()]
        lines = self._client.node_list().nodes
        return Observation(
            view=tuple(
                ToldVm(
                    vm.vm_id,
                    vm.name,
                    vm.node,
                    vm.state,
                    vm.wanted,
                    vm.reason.code if vm.reason else "",
                )
                for vm in self._client.vm_list().vms
            ),
            told={name: self.told(name) for name in names},
            processes=self.processes(),
            folders={name: self._folders(name) for name in names},
            node_states={line.name: line.state for line in lines},
            problems={name: self._problems(name) for name in names},
            open_orders=tuple(
                f"{order.verb} {order.name} of {order.created_at} ({order.step})"
                for order in self._client.order_list().orders
                if order.state not in ENDED
            ),
        )

    def told(self, name: str) -> tuple[ToldVm, ...]:
        """Return what a host's own shell lists."""
        found = wire.from_json(VmList, self._fleet.node_json(name, "vm", "list"))
        return tuple(
            ToldVm(
                entry.vm.spec.vm_id,
                entry.vm.spec.name,
                name,
                entry.run.state,
                entry.vm.wanted,
                entry.run.reason.code if entry.run.reason else "",
            )
            for entry in found.vms
        )

    def processes(self) -> dict[str, tuple[VmId, ...]]:
        """Return the VMs that QEMU runs, by host."""
        found: dict[str, list[VmId]] = {}
        for host, vm_id, _ in qemu_processes(self._fleet.lab):
            found.setdefault(host, []).append(vm_id)
        return {host: tuple(vm_ids) for host, vm_ids in found.items()}

    def new_events(self) -> list[SeenEvent]:
        """Return what the aggregator logged since the last call."""
        since = max((event.number for event in self.events), default=0)
        query = {"since": since, "max": _EVENTS_MAX}
        found = self._client.call(verbs.EVENT_LIST, EventLines, query=query)
        fresh = [
            SeenEvent(
                event.number,
                event.at,
                event.code,
                event.vm_id or "",
                str(event.fields.get("node", "")),
            )
            for event in found.events
        ]
        self.events += fresh
        return fresh

    def node_events(self, name: str) -> list[SeenEvent]:
        """Return what a host logged since its boot."""
        host = self._fleet.lab.member(name)
        program = str(members.VIRTUAL_ENVIRONMENT / "bin/skerry-node")
        result = host.exec([program, "--json", "events"])
        if result.returncode != 0:
            raise errors.StepFailed(name, result.stderr.strip(), remedy="see its log")
        events = (
            wire.from_json(Event, each, strict=False)
            for each in _documents(result.stdout)
        )
        return [
            SeenEvent(event.number, event.at, event.code, event.vm_id or "")
            for event in events
        ]

    def new_logs(self) -> dict[str, str]:
        """Return what programs have logged since the last call."""
        found = {}
        for member in self._fleet.lab.members():
            for service in _READ:
                if text := self._rest(member.log_path(service)):
                    found[f"{member.name} {service}"] = text
        return found

    def _rest(self, path: Path) -> str:
        if not path.exists():
            return ""
        text = path.read_bytes()
        start = self._read_to.get(path, 0)
        self._read_to[path] = len(text)
        # A log that became too long was begun anew.
        return text[start if start <= len(text) else 0 :].decode(errors="replace")

    def _folders(self, name: str) -> tuple[str, ...]:
        """Return whose disks are there; of no VM's, the disks themselves."""
        defined = wire.from_json(VmList, self._fleet.node_json(name, "vm", "list"))
        users = {
            disk.disk_id: entry.vm.spec.vm_id
            for entry in defined.vms
            for disk in entry.vm.spec.disks
        }
        found = wire.from_json(DiskList, self._fleet.node_json(name, "disk", "list"))
        return tuple(users.get(each.disk_id, each.disk_id) for each in found.disks)

    def _problems(self, name: str) -> tuple[str, ...]:
        problems = self._fleet.node_status(name).problems
        return tuple(problem.code for problem in problems)

    def _host(self, name: str) -> running.Member:
        return self._fleet.lab.member(name)


def qemu_processes(lab: Lab) -> Iterator[tuple[str, VmId, int]]:
    """Yield host, VM and pid of each QEMU of the lab, as the machine sees them."""
    group = re.compile(rf"/{re.escape(lab.plan.prefix)}/(\w+)")
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"qemu-system" not in words[0] or b"-uuid" not in words:
                continue
            host = group.search((folder / "cgroup").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if host is not None:
            vm_id = words[words.index(b"-uuid") + 1].decode()
            yield host[1], VmId(vm_id), int(folder.name)


def _documents(text: str) -> Iterator[Any]:
    """Yield each of the JSON documents that follow one another in a text."""
    decoder = json.JSONDecoder()
    text = text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].lstrip()
