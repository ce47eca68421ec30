"""Put the agent together: options → doors → memory → services → faces → sockets.

The only place that constructs. Killing the agent harms nothing: QEMU is libvirt's
child, and what was answered is in the store.
"""

import logging
import random
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import flask

from node import log, signals
from node.api import (
    admission,
    changes,
    exports,
    faces,
    host,
    jobs,
    nginx,
    registering,
    snapshots,
    vms,
)
from node.api import hooks as hooks_api
from node.api import storage as storage_api
from node.api import templates as templates_api
from node.api import transfers as transfers_api
from node.clock import SystemClock, rfc3339
from node.config import Config
from node.discovery import Discovery
from node.feed import Feed
from node.guest.facts import GuestPoller
from node.hooks import settings as hook_settings
from node.hooks.installing import Bundles
from node.hooks.replies import Replies
from node.hooks.runner import Occasion
from node.hooks.trying import Trials
from node.hooks.vms import VmHooks
from node.host import capabilities, inventory, keeper, status
from node.host.aggregators import FeedSender, TlsAggregators
from node.host.enrol import Enrolment, Identity, build_date
from node.host.keeper import Keeper
from node.host.kvm_probe import KvmProbe
from node.host.stats import StatsSampler
from node.http import front, refusals, serving
from node.jobs import Jobs
from node.model.feed import DeltaReply
from node.model.fleet import AggregatorAddress
from node.model.hooks import HookPoint
from node.model.host import AdmissionState, NodeStatus
from node.model.ids import NodeId
from node.model.reason import Reason
from node.model.stats import NodeStats, Stats
from node.model.vm import VmState
from node.storage import checksums, images
from node.storage.domains.access import LocalFolders
from node.storage.guard import SocketGuard
from node.storage.pools import world
from node.storage.pools.newcomers import PoolNewcomers
from node.storage.pools.reach import Reach
from node.storage.pools.service import Storage
from node.storage.pools.wanted import Memory
from node.storage.process import protocol
from node.storage.spm.pool import Options
from node.storage.transfers.service import Transfers
from node.store import Store
from node.system import command, watchdog
from node.system.bus import AvahiAnnouncer
from node.system.devices import KernelDevices
from node.system.libvirt_hypervisor import LibvirtHypervisor
from node.system.mounts import SystemMounts
from node.system.netlink import KernelNetlink
from node.system.procfs import KernelProcfs
from node.transfer import places as transfer_places
from node.transfer.client import ImageClient, TicketClient
from node.vm import files, rivals
from node.vm.importing import Importer
from node.vm.lifecycle import Lifecycle
from node.vm.registering import Registrar

logger = logging.getLogger(__name__)

STOP_S: Final = 5.0  # for each part to end what it does
ADMISSION_THREADS: Final = 2  # a node is admitted once
SENTENCE_S: Final = 1.0  # this often we look whether our state is another
NS: Final = 1_000_000_000  # in a second
_ALWAYS: Final = "always"


class Agent:
    """All parts of a running agent."""

    def __init__(self, config: Config) -> None:
        self.clock = SystemClock()
        self.procfs = KernelProcfs()
        self.netlink = KernelNetlink()
        self.config = config = _complete(config, self.procfs, self.netlink)
        self.state = Path(config.state_folder)
        self.run_folder = Path(config.run_folder)
        _make_folder(self.state, 0o711)
        _make_folder(self.run_folder, 0o755)
        boot_id = self.procfs.text("/proc/sys/kernel/random/boot_id")
        node_id = capabilities.node_id(config.node_id, "", "")
        self.store = Store(self.state / "node.db", self.clock, node_id, boot_id)
        self.jobs = Jobs(self.store, self.clock)
        self.hypervisor = LibvirtHypervisor(config.libvirt_uri)
        self.kvm = KvmProbe(
            self.store,
            self.procfs,
            command.run,
            command.first_line,
            boot_id,
            is_wanted=config.emulation != _ALWAYS,
            kernel=config.kvm_probe_kernel,
        )
        self.devices = KernelDevices(config.udev_source)
        self.checksums = checksums.Checksums(
            self.state / "images", self.store, self._poke_inventory
        )
        self.runner = hook_settings.make(config)
        self.trials = self._trials()
        self.bundles, self.replies = self._bundles(), Replies(self.runner)
        self.inventory = self._inventory(node_id, boot_id)
        self.storage = self._storage(node_id)
        self.transfers = self._transfers()
        volumes = self.storage.volumes()
        self.hooks = self._vm_hooks()
        self.lifecycle = Lifecycle(
            self.hypervisor,
            self.store,
            self.jobs,
            self.clock,
            config,
            self.inventory.facts,
            images.list_images,
            GuestPoller,
            volumes,
            self.hooks,
        )
        self.snapshotter = self.lifecycle.snapshotter(volumes, self.store)
        kept = self.storage.templates()
        self.templates = self.lifecycle.templates(kept, volumes, self.store)
        targets = self.storage.exports()
        self.exporter = self.lifecycle.exporter(targets, volumes, kept, self.store)
        self.newcomers = PoolNewcomers(
            *(self.storage.roster, self.storage.world.guard, self.clock)
        )
        self.registrar = Registrar(
            *(self.lifecycle.editor, self.newcomers),
            Importer(targets, volumes, self.lifecycle.editor, self.templates),
            *(self.jobs, self.inventory.facts),
        )
        self.sampler = StatsSampler(
            *(self.procfs, self.clock, self.inventory.cards, self.lifecycle.stats),
            *(self.state, config.stats_interval_s, self.replies.stats),
        )
        self.front = front.Front(self.run_folder, self._nginx)
        self.enrolment = self._enrolment(node_id)
        self.discovery = Discovery(AvahiAnnouncer())
        self.keeper = self._keeper()
        self.feed = self._feed()
        self.servers = self._servers()

    def start(self) -> None:
        """Start everything; the faces last, so that who asks gets true answers."""
        self.runner.clear()
        self.lifecycle.run()
        of_vms, of_storage = self.lifecycle.job_handlers(), self.storage.job_handlers()
        of_snapshots = self.snapshotter.job_handlers()
        of_templates = self.templates.job_handlers()
        of_registrar = self.registrar.job_handlers()
        self.jobs.recover(
            {
                **of_vms,
                **of_snapshots,
                **of_templates,
                **of_registrar,
                **self.exporter.job_handlers(),
                **self.hooks.job_handlers(),
                **of_storage,
            }
        )
        self.jobs.start()
        self.kvm.start(self.inventory.poke)
        self.inventory.facts()  # of the last run, if there was one
        self.inventory.start()
        self.inventory.poke()
        self.checksums.start()
        self.storage.start()
        self.transfers.start()
        self.lifecycle.watch_pools()
        self.sampler.start()
        for server in self.servers:
            server.start()
        self.front.refresh()
        self.discovery.announce(self.enrolment.request())
        self.keeper.start()
        self.feed.start()
        with self.store.change() as change:
            change.event("node_started", node=self.config.name)

    def stop(self) -> None:
        """Stop everything; guests are not touched."""
        for server in self.servers:
            server.stop()
        self.feed.stop(STOP_S)
        self.keeper.stop()
        self.discovery.close()
        self.jobs.stop(STOP_S)
        self.transfers.stop(STOP_S)
        self.storage.stop(STOP_S)
        self.sampler.stop(STOP_S)
        self.checksums.stop(STOP_S)
        self.inventory.stop(STOP_S)
        self.lifecycle.close()
        self.store.close()

    def status(self) -> NodeStatus:
        """Return how this node is, in a sentence and in figures."""
        request = self.enrolment.request()
        membership = self.enrolment.membership()
        entries = self.lifecycle.list()
        running = sum(entry.run.state is not VmState.DOWN for entry in entries)
        facts = self.inventory.facts()
        blind = self.lifecycle.problem()
        problems = (
            *facts.problems,
            *((blind,) if blind is not None and not facts.problems else ()),
            *self.enrolment.problems(),
        )
        links = self.feed.status()
        state = AdmissionState.ADMITTED if membership else AdmissionState.WAITING
        return NodeStatus(
            facts.node_id,
            facts.name,
            facts.address,
            facts.versions.agent,
            request.fingerprint,
            state,
            status.sentence(
                replace(facts, problems=problems),
                state,
                links,
                running=running,
                defined=len(entries),
            ),
            self.store.epoch,
            self.store.rev,
            self._term(),
            running,
            len(entries),
            membership.fleet_id if membership else None,
            problems,
            links,
            tuple(each.name for each in self.lifecycle.foreign()),
        )

    def stats(self) -> Stats:
        """Return the newest figures; empty ones before the first sample."""
        latest = self.sampler.latest()
        return latest or Stats(rfc3339(self.clock.now()), NodeStats())

    def _poke_inventory(self) -> None:
        self.inventory.poke()

    def _problems(self) -> tuple[Reason, ...]:
        found = (
            *(self.lifecycle.crowding(), self.lifecycle.left_behind()),
            rivals.find(self.procfs, self.clock),
        )
        known = (each for each in found if each is not None)
        return (*known, *self.storage.problems())

    def _storage(self, node_id: str) -> Storage:
        """Return all pools of this node; nothing is looked at before it starts."""
        config, session = self.config, int(self.clock.monotonic() * NS)
        guard = SocketGuard(self.run_folder / protocol.SOCKET, session)
        mounts = SystemMounts(command.run)
        scratch = config.permits_scratch_storage
        local_folders = LocalFolders(mounts.find, scratch)
        folder = self.run_folder / "storage"
        made = world.World(
            NodeId(node_id),
            config.name,
            guard,
            self.clock,
            self.jobs,
            Memory(self.store),
            Reach(mounts, folder, guard, local_folders),
            watchdog.is_served,
            self._hears_leader,
            self._uses,
            user_elsewhere=lambda disk_id: self.lifecycle.user_of(disk_id),
            holding=lambda *how: self.lifecycle.pool_vms.holding(*how),
            on_defined=lambda vm: self.lifecycle.adopt(vm),
            on_problems=self._poke_inventory,
            options=Options(
                risks_data_without_watchdog=config.risks_data_without_watchdog,
                data_jobs_max=config.data_jobs_max,
                images=self.state / "images",
            ),
        )
        local = Path(config.local_storage) if config.local_storage else None
        return Storage(self.store, made, local)

    def _trials(self) -> Trials:
        return Trials(
            self.runner,
            lambda vm_id: self.lifecycle.show(vm_id).vm,
            lambda vm_id: self.lifecycle.describe(vm_id),
            self.hypervisor.complaint,
            command.run,
        )

    def _transfers(self) -> Transfers:
        folder = self.run_folder / "transfer"
        transfer_places.make_folder(folder)
        doors = (
            TicketClient(folder / transfer_places.TICKETS_SOCKET),
            ImageClient(folder / transfer_places.SOCKET),
        )
        address = (self.config.address, self.config.transfer_port)
        storage = self.storage
        return Transfers(
            self.store, storage.world, storage.roster, doors, folder, address
        )

    def _hears_leader(self) -> bool:
        return bool(self._links()) and any(e.is_reached for e in self.feed.status())

    def _uses(self) -> Mapping[str, world.Use]:
        """Return the disks of pools that guests here run with."""
        return {
            disk.disk_id: world.Use(entry.vm.spec.vm_id, disk.storage_domain_id)
            for entry in self.lifecycle.list()
            if entry.run.state is not VmState.DOWN
            for disk in entry.vm.spec.disks
            if disk.storage_domain_id is not None
        }

    def _inventory(self, node_id: str, boot_id: str) -> inventory.Inventory:
        folder = self.state / "images"
        _make_folder(folder, 0o711)
        identity = inventory.Identity(
            capabilities.node_id(node_id, "", ""),
            self.config.name,
            self.config.address,
            boot_id,
            self.state,
        )
        sources = inventory.Sources(
            self.procfs,
            self.netlink,
            self.devices,
            lambda: self.hypervisor.facts(is_emulated=not self.kvm.facts().is_usable),
            self.kvm.facts,
            self.checksums.list,
            files.has_uefi,
            self._problems,
            self.trials.scripts,
            self.bundles.list,
            self.replies.caps,
        )
        return inventory.Inventory(identity, sources, self.store, self.clock)

    def _vm_hooks(self) -> VmHooks:
        parts = (self.runner, self.store, self.jobs, command.run)
        return VmHooks(
            *parts, is_strict=lambda: self.enrolment.rules().has_strict_hooks
        )

    def _bundles(self) -> Bundles:
        folder = hook_settings.bundles_folder(self.config)
        return Bundles(folder, self.store, self._hook_keys, self._poke_inventory)

    def _hook_keys(self) -> tuple[str, ...]:
        return tuple(each.pem for each in self.enrolment.rules().hook_keys)

    def _enrolment(self, node_id: str) -> Enrolment:
        identity = Identity(
            capabilities.node_id(node_id, "", ""),
            self.config.name,
            self.config.address,
            self.config.api_port,
            self.config.admission_port,
        )
        return Enrolment(
            self.store,
            self.state / "pki",
            identity,
            self.clock,
            self._membership_changed,
            built_at=build_date(),
        )

    def _feed(self) -> Feed:
        return Feed(
            self.store,
            self.clock,
            self._links,
            self._open_sender,
            self.sampler.latest,
            self._take_reply,
            self.config.push_interval_s,
        )

    def _keeper(self) -> Keeper:
        return Keeper(
            self.enrolment,
            TlsAggregators(self.enrolment.client_context),
            keeper.parse_zero_touch(self.config.aggregator, self.config.token),
            self.config.address,
            self.clock,
            random.Random(),
            self.config.fetch_gap_s,
        )

    def _servers(self) -> tuple[serving.Server, ...]:
        threads = self.config.threads
        fleet = faces.create_fleet(self._blueprints(), self.enrolment.check_term)
        doors: tuple[tuple[str, serving.Application, int, str | None], ...] = (
            ("local", faces.create_local(self._blueprints()), threads, None),
            (
                "nginx",
                refusals.Refusals(self.clock).behind(fleet),
                threads,
                serving.NGINX_GROUP,
            ),
            (
                "admission",
                faces.create_admission(self._blueprints()),
                ADMISSION_THREADS,
                serving.NGINX_GROUP,
            ),
        )
        return tuple(
            serving.Server(self.run_folder / f"{name}.sock", app, count, group)
            for name, app, count, group in doors
        )

    def _blueprints(self) -> tuple[flask.Blueprint, ...]:
        sources = host.Sources(
            self.status,
            self.inventory.facts,
            self.inventory.devices,
            self.inventory.images,
            self.stats,
        )
        return (
            host.blueprint(sources),
            vms.blueprint(self.lifecycle),
            snapshots.blueprint(self.snapshotter),
            templates_api.blueprint(self.templates),
            exports.blueprint(self.exporter),
            hooks_api.blueprint(self.trials, self.bundles),
            registering.blueprint(self.storage, self.newcomers, self.registrar),
            jobs.blueprint(self.jobs),
            changes.blueprint(self.store),
            storage_api.blueprint(self.storage),
            transfers_api.blueprint(self.transfers),
            admission.blueprint(self.enrolment, self.status),
        )

    def _nginx(self) -> str:
        return nginx.render(
            nginx.NodeFront(
                self.run_folder,
                self.state / "pki",
                self.config.api_port,
                self.config.admission_port,
                self.config.transfer_port,
                is_member=self.enrolment.is_member(),
                has_ipv6=front.has_ipv6(),
            )
        )

    def _membership_changed(self) -> None:
        self.front.refresh()
        self.discovery.announce(self.enrolment.request())
        self.keeper.poke()
        self.feed.poke()

    def _links(self) -> tuple[AggregatorAddress, ...]:
        membership = self.enrolment.membership()
        return membership.aggregators if membership else ()

    def _term(self) -> int:
        membership = self.enrolment.membership()
        return membership.term if membership else 0

    def _open_sender(self, aggregator: AggregatorAddress) -> FeedSender:
        return FeedSender(aggregator, self.enrolment.client_context, self._term)

    def _take_reply(self, aggregator: AggregatorAddress, reply: DeltaReply) -> None:
        if reply.fleet is not None:
            self.keeper.note_mark(aggregator, reply.fleet)


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT; log a sentence when the node's state changes."""
    begin = time.monotonic()
    log.configure(config.log_level)
    # As root, before anything of ours is there. After a crash the next start does it.
    hook_settings.make(config, is_root=True).attempt(
        Occasion(HookPoint.BEFORE_VDSM_START)
    )
    with signals.heard(signal.SIGTERM, signal.SIGINT) as wait:
        agent = Agent(config)
        agent.start()
        said = agent.status().sentence
        logger.info("up after %.2f s: %s", time.monotonic() - begin, said)
        while (received := wait(SENTENCE_S)) is None:
            sentence = agent.status().sentence
            if sentence != said:
                logger.info("%s", sentence)
                said = sentence
        logger.info("stopping on %s", received.name)
        agent.stop()
        agent.runner.attempt(Occasion(HookPoint.AFTER_VDSM_STOP))


def _complete(config: Config, procfs: KernelProcfs, netlink: KernelNetlink) -> Config:
    """Return the options with what follows from this machine."""
    node_id = capabilities.node_id(
        config.node_id,
        procfs.text("/sys/class/dmi/id/product_uuid"),
        procfs.text("/etc/machine-id"),
    )
    address = capabilities.address(
        config.address, netlink.default_routes(), netlink.addresses()
    )
    return replace(
        config,
        node_id=node_id,
        name=config.name or procfs.host_name(),
        address=address,
    )


def _make_folder(path: Path, mode: int) -> None:
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    path.chmod(mode)
