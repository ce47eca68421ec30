"""Set up the product in a lab, as its administrator would.

Tests and the demo use the same steps: initialise the aggregator, log in, compare
fingerprints with each host's own console, admit, create, start.
"""

import configparser
import contextlib
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aggregator.api import verbs
from aggregator.api.model import AdmitNode, NewVm, NodeLine, OrderLine, VmDetail
from aggregator.cli import client
from node import pki, wire
from node.http.client import NodeUnreachable
from node.model.host import NodeStatus
from node.model.ids import VmId
from node.model.job import ENDED, JobState
from node.model.requests import StartVm, StopManner, StopVm
from node.model.vm import VmState
from tests.lab import errors, layout, members, running, waiting
from tests.lab.lab import Lab

log = logging.getLogger(__name__)

USER = "admin@internal"
PASSWORD = "demonstration"  # of a fleet that lives for minutes on one machine
IMAGE = "lab-guest"
START_TIMEOUT_S = 120.0  # emulated guests boot in seconds, three at once slower
COPY_TIMEOUT_S = 90.0  # a node fetches one every second, if the machine lets it
DISCOVERY_TIMEOUT_S = 60.0  # a record that changed is asked for again in between
_BIN = members.VIRTUAL_ENVIRONMENT / "bin"
_CA = "/var/lib/skerry-aggregator/pki/ca.pem"


@dataclass(slots=True)
class Fleet:
    """A lab whose aggregator is set up; `port` of this machine leads to it."""

    lab: Lab
    port: int

    def initialise(self, name: str = "a1") -> str:
        """Set an aggregator up; return its recovery key (empty: it was before)."""
        member = self.lab.member(name)
        if self.is_initialised(name):
            return ""
        result = self._aggregator(member, "init", "--password-stdin", input=PASSWORD)
        key = str(json.loads(result)["recovery_key"])
        _key_file(member).write_text(key)
        return key

    def recovery_key(self, name: str = "a1") -> str:
        """Return the recovery key that `initialise` was shown."""
        return _key_file(self.lab.member(name)).read_text()

    def log_in(self, name: str = "a1") -> client.FleetClient:
        """Return a client that is logged in."""
        return client.connect(self.session(name))

    def session(self, name: str = "a1") -> client.Session:
        """Log in, and return what `skerry` needs to speak to an aggregator."""
        certificate = waiting.until(
            f"the CA certificate of {name}",
            lambda: self.lab.member(name).exec(["cat", _CA]).stdout,
            log_path=self._log(name),
        )
        fresh = client.Session("localhost", self.port, "", certificate)
        token = waiting.until(
            f"a login at {name}",
            lambda: client.connect(fresh).login(USER, PASSWORD),
            log_path=self._log(name),
        )
        return replace(fresh, token=token.token)

    def hosts(self) -> list[running.Member]:
        return self.lab.members(layout.Kind.HOST)

    def wait_candidates(self, fleet_client: client.FleetClient) -> None:
        """Wait until every host is a candidate or a member."""
        names = {host.name for host in self.hosts()}

        def all_seen() -> bool:
            lines = fleet_client.node_list()
            seen = {each.name for each in lines.candidates}
            return names <= seen | {each.name for each in lines.nodes}

        waiting.until(
            "all hosts found by discovery",
            all_seen,
            timeout_s=DISCOVERY_TIMEOUT_S,
            log_path=self._log(),
        )

    def admit_all(self, fleet_client: client.FleetClient) -> list[str]:
        """Admit each candidate whose own console shows the same fingerprint."""
        admitted = []
        for each in fleet_client.node_list().candidates:
            shown = self.node_json(each.name, "fingerprint")["fingerprint"]
            if shown != each.fingerprint:
                raise errors.StepFailed(
                    each.name,
                    f"its console shows {shown}, the aggregator {each.fingerprint}",
                    remedy="do not admit it",
                )
            fleet_client.node_admit(AdmitNode(each.fingerprint, each.node_id))
            admitted.append(each.name)
        return admitted

    def admit_missing(self, fleet_client: client.FleetClient) -> bool:
        """Admit by its address each host that is no member, found or not.

        A host that left on its own console does not know us: it is admitted anew.
        """
        ours = pki.fingerprint(self.file("a1", _CA))
        members = {each.name for each in fleet_client.node_list().nodes}
        said = self._ask_hosts("/v1/admission")
        if len(said) < len(self.hosts()):
            return False  # one of them says nothing yet
        for host, request in zip(self.hosts(), said, strict=True):
            if host.name not in members or request.get("ca_fingerprint") != ours:
                status = self.node_status(host.name)
                asked = AdmitNode(status.fingerprint, address=host.address)
                fleet_client.node_admit(asked)
        return True

    def wait_up(
        self, fleet_client: client.FleetClient, *, timeout_s: float = 60.0
    ) -> tuple[NodeLine, ...]:
        """Wait until every host is up in the aggregator's view."""
        names = {host.name for host in self.hosts()}

        def all_up() -> tuple[NodeLine, ...] | None:
            lines = fleet_client.node_list().nodes
            return (
                lines if {n.name for n in lines if n.state == "up"} >= names else None
            )

        return waiting.until(
            "all nodes up", all_up, timeout_s=timeout_s, log_path=self._log()
        )

    def forget_storage(self, fleet_client: client.FleetClient) -> None:
        """Let the hosts and the aggregator forget all pools, and admit the hosts anew.

        Who only killed the hosts would see the first of them join the pool again, by
        what the aggregator still has of the last.
        """
        self.lab.restore()
        # An order whose node was removed in the middle is given to it again.
        with contextlib.suppress(errors.TimedOut):
            self.wait_idle(fleet_client)
        lines = waiting.until("an answer", fleet_client.node_list)
        for line in lines.nodes:
            fleet_client.node_remove(line.node_id, is_forced=True)
        self.lab.forget_storage()
        self.lab.restore()
        waiting.until("all admitted", lambda: self.admit_missing(fleet_client))

    def wait_idle(self, fleet_client: client.FleetClient) -> None:
        """Wait until no order is open."""

        def all_ended() -> bool:
            return all(o.state in ENDED for o in fleet_client.order_list().orders)

        waiting.until("all orders ended", all_ended, log_path=self._log())

    def create_vm(self, fleet_client: client.FleetClient, request: NewVm) -> VmId:
        """Create a VM and wait for its node's word."""
        order = self.wait_order(fleet_client, fleet_client.vm_create(request))
        assert order.vm_id is not None
        return order.vm_id

    def start_vm(self, fleet_client: client.FleetClient, vm_id: VmId) -> None:
        self.wait_order(fleet_client, fleet_client.vm_start(vm_id, StartVm()))

    def begin_start(self, fleet_client: client.FleetClient, vm_id: VmId) -> OrderLine:
        """Order a start, and do not wait for it."""
        return fleet_client.vm_start(vm_id, StartVm())

    def stop_vm(self, fleet_client: client.FleetClient, vm_id: VmId) -> None:
        request = StopVm(manner=StopManner.GRACEFUL, deadline_s=60.0)
        self.wait_order(fleet_client, fleet_client.vm_stop(vm_id, request))

    def delete_vm(self, fleet_client: client.FleetClient, vm_id: VmId) -> None:
        order = fleet_client.vm_act(verbs.VM_DELETE, vm_id)
        self.wait_order(fleet_client, order)

    def wait_order(
        self,
        fleet_client: client.FleetClient,
        order: OrderLine,
        *,
        timeout_s: float = START_TIMEOUT_S,
    ) -> OrderLine:
        """Wait for the end of an order; StepFailed if it did not succeed."""

        def ended() -> OrderLine | None:
            line = fleet_client.order_show(order.order_id, 1.0)
            return line if line.state in ENDED else None

        what = f"{order.verb} {order.name}"
        line = waiting.until(what, ended, timeout_s=timeout_s, log_path=self._log())
        if line.state is not JobState.DONE:
            told = line.error.message if line.error else line.state
            raise errors.StepFailed(
                what,
                told,
                remedy=line.error.remedy if line.error else "look at the events",
                log=self._log(),
            )
        return line

    def wait_address(self, fleet_client: client.FleetClient, vm_id: VmId) -> VmDetail:
        """Wait until the VM is up and its guest has told an address."""

        def has_address() -> VmDetail | None:
            detail = fleet_client.vm_show(vm_id)
            guest = detail.entry.run.guest
            is_up = detail.state is VmState.UP
            return detail if is_up and guest and guest.addresses else None

        return waiting.until(
            "an address of the guest",
            has_address,
            timeout_s=START_TIMEOUT_S,
            log_path=self._log(),
        )

    def node_status(self, name: str) -> NodeStatus:
        """Return what a host's own agent says."""
        return wire.from_json(NodeStatus, self.node_json(name, "status"), strict=False)

    def ask(self, name: str) -> None:
        """Ask a host's admission port for a sign of life; NodeUnreachable."""
        url = f"https://{self.lab.member(name).address}:7441/v1/admission"
        result = self.lab.in_switch(["curl", "-fsSk", "-m", "2", url])
        if result.returncode != 0:
            raise NodeUnreachable(f"{name}: {result.stderr.strip()}")

    def node_json(self, name: str, *words: str) -> Any:
        """Run `skerry-node --json …` in a host and return what it prints."""
        argv = [str(_BIN / "skerry-node"), "--json", *words]
        result = self.lab.member(name).exec(argv)
        if result.returncode != 0:
            raise NodeUnreachable(f"{name}: {result.stderr.strip()}")
        return json.loads(result.stdout)

    def file(self, name: str, path: str) -> str:
        """Return the text of a file of a member."""
        result = self.lab.member(name).exec(["cat", path])
        if result.returncode != 0:
            raise errors.StepFailed(
                f"{name} {path}", result.stderr.strip(), remedy="see what is there"
            )
        return result.stdout

    def set_options(self, name: str, **options: str) -> None:
        """Change a member's configuration and restart what reads it.

        An empty value takes the option out.
        """
        member = self.lab.member(name)
        is_host = member.place.kind is layout.Kind.HOST
        section = "node" if is_host else "aggregator"
        path = f"/etc/skerry/{section}.conf"
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(self.file(name, path))
        for option, value in options.items():
            parser.remove_option(section, option)
            if value:
                parser.set(section, option, value)
        text = io.StringIO()
        parser.write(text)
        member.exec(["tee", path], input=text.getvalue())
        self.restart(name, "agent" if is_host else "aggregator")

    def restart(self, name: str, service: str) -> None:
        member = self.lab.member(name)
        member.stop_service(service)
        member.start_service(service)

    def leave(self, name: str) -> None:
        """Release a host from its fleet, on its own console."""
        self.node_json(name, "leave", "--yes")

    def wipe_aggregator(self, name: str) -> None:
        """Delete all that an aggregator keeps; its services wait for a new one."""
        member = self.lab.member(name)
        for service in ("aggregator", "nginx"):
            member.stop_service(service)
        member.exec(["rm", "-rf", _STATE, "/run/skerry-aggregator"])
        for service in ("aggregator", "nginx"):
            member.start_service(service)

    def rebuild(self, name: str, node: str, recovery_key: str, *words: str) -> Any:
        """Rebuild the fleet on a wiped aggregator from what a host kept."""
        address = self.lab.member(node).address
        argv = ("rebuild", "--node", address, "--recovery-key-stdin", *words)
        member = self.lab.member(name)
        return json.loads(self._aggregator(member, *argv, input=recovery_key + "\n"))

    def is_initialised(self, name: str) -> bool:
        argv = ["test", "-e", f"{_STATE}/initialized"]
        return self.lab.member(name).exec(argv).returncode == 0

    def wait_copies(self, leader: str = "a1") -> None:
        """Wait until every host keeps the leader's newest sealed copy."""

        def have_all() -> bool:
            standing = self.standing(leader)
            newest = (standing["term"], standing["sealed_version"])
            kept = self._ask_hosts("/v1/fleet/sealed")
            return all((k.get("term"), k.get("version")) == newest for k in kept)

        waiting.until(
            "the newest copy on all hosts",
            have_all,
            timeout_s=COPY_TIMEOUT_S,
            poll_s=0.5,  # it starts a program each time
        )

    def forget(self, leader: str, name: str) -> None:
        """Let the nodes push to a leader only, and not to another aggregator."""
        self._aggregator(self.lab.member(leader), "forget", name)

    def promote(self, name: str) -> int:
        """Let an aggregator lead; return its term."""
        reply = json.loads(self._aggregator(self.lab.member(name), "promote"))
        return int(reply["term"])

    def standing(self, name: str) -> Any:
        """Return what `skerry-aggregator status` says."""
        return json.loads(self._aggregator(self.lab.member(name), "status"))

    def _log(self, name: str = "a1") -> Path:
        """Return an aggregator's log, which tells of its nodes, too."""
        return self.lab.member(name).log_path("aggregator")

    def _ask_hosts(self, path: str) -> list[Any]:
        """Return what each host says at its admission port; NodeUnreachable."""
        urls = [f"https://{host.address}:7441{path}" for host in self.hosts()]
        argv = ["curl", "-sSk", "-m", "5", "-w", "\\n", *urls]
        result = self.lab.in_switch(argv)
        if result.returncode != 0:
            raise NodeUnreachable(result.stderr.strip())
        return [json.loads(line) for line in result.stdout.split("\n") if line]

    def _aggregator(
        self, member: running.Member, *words: str, input: str | None = None
    ) -> str:
        argv = [str(_BIN / "skerry-aggregator"), "--json", *words]
        result = member.exec(argv, input=input)
        if result.returncode != 0:
            raise errors.StepFailed(
                f"{member.name} {words[0]}",
                result.stderr.strip(),
                remedy="correct what it names, then try again",
                log=self._log(member.name),
            )
        return result.stdout


_STATE = "/var/lib/skerry-aggregator"


def environment() -> Mapping[str, str]:
    """Return what a shell needs to run the product's commands."""
    return {"PATH": f"{_BIN}:/usr/sbin:/usr/bin:/sbin:/bin"}


def _key_file(member: running.Member) -> Path:
    """Return where the lab remembers a recovery key: on no member's own disk."""
    return member.directory / "recovery-key"
