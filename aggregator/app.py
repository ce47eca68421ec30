"""Put the aggregator together: options → memory → services → faces → sockets.

The only place that constructs. It stops on SIGTERM, and starts anew on SIGHUP,
after a command has changed what it had loaded.
"""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from aggregator import (
    admission,
    authority,
    collector,
    dashboard,
    db,
    nginx,
    passage,
    rest,
)
from aggregator.access import Access
from aggregator.access.defaults import ensure_defaults
from aggregator.api import app as api
from aggregator.calls import Calls, MemberClient
from aggregator.config import Config
from aggregator.control import routes
from aggregator.control.execute import Executor
from aggregator.control.hook_bundles import HookBundles
from aggregator.control.limits_keeper import LimitsKeeper
from aggregator.control.loop import Loop
from aggregator.control.orders import Orders
from aggregator.control.pool_keeper import PoolKeeper
from aggregator.control.transfers import Transfers
from aggregator.discovery import Browser
from aggregator.federation import ingest
from aggregator.federation.events import EventLog
from aggregator.federation.mirror import Mirror
from aggregator.fleet import following, handout, reach
from aggregator.fleet.hook_rules import HookRules
from aggregator.fleet.term import Leadership
from aggregator.fleet.upkeep import Upkeep
from aggregator.hooks import center, endings, points
from aggregator.hooks.center import CenterHooks
from aggregator.hooks.deeds import Deed, Ending
from aggregator.registry import Registry
from aggregator.services import Services
from node import log, signals
from node.clock import SystemClock
from node.errors import NotFound
from node.hooks import runner
from node.hooks.runner import Runner
from node.http import face, front, refusals, serving
from node.model.fleet import AggregatorAddress
from node.model.ids import NodeId, VmId

logger = logging.getLogger(__name__)

ADMISSION_THREADS: Final = 4  # nodes enrol and renew a few times in their lives
TIDY_EVERY_S: Final = 3600.0  # it stops everything for up to half a second
# Stopping may wait for silent nodes; then what is on disk is enough to go on from.
STOP_S: Final = 8.0
SLOW_S: Final = 1.0  # a part that takes longer to stop is told in the log
PID_FILE: Final = "aggregator.pid"


class NoSuchVm(NotFound):
    code = "no_such_vm"
    remedy = "See `skerry vm list` for what there is."


class Part(Protocol):
    """What runs in the background."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Aggregator:
    """All parts of a running aggregator."""

    def __init__(self, config: Config) -> None:
        self.config = config = _complete(config)
        self.clock = SystemClock()
        self.state = Path(config.state_folder)
        self.run_folder = Path(config.run_folder)
        self.database = db.Database(
            config.database_url or db.sqlite_url(self.state / "aggregator.db")
        )
        ensure_defaults(self.database)
        pki = self.state / "pki"
        self.authority = authority.Authority(pki, self.clock)
        self.authority.prepare_own(config.name, config.address)
        self.leadership = Leadership(self.database, self.authority, pki)
        self.events = EventLog(self.database, self.clock)
        self.leadership.on_superseded(self._note_superseded)
        self.calls = Calls(self.authority, self.leadership)
        self.me = AggregatorAddress(
            config.name,
            config.address,
            config.feed_port,
            config.admission_port,
            self.authority.key_fingerprint(),
        )
        self.center_hooks = CenterHooks(
            self._runner(),
            self.database.records(center.COLLECTION),
            self.events,
            self._how_ended,
            self.clock,
        )
        self.hook_rules = HookRules(self.database, self.events)
        self.registry = self._registry()
        self.hook_rules.on_change(self.registry.tell_anew)
        self.mirror = Mirror(self.database, self.events, self.clock)
        self.mirror.set_members(self.registry.members())
        self.registry.on_change(self._show_members)
        self.executor = Executor(lambda each: self.calls.node(self.registry, each))
        self.orders = Orders(
            *(self.database, self.mirror, self.events, self.executor, self.clock),
            gate=self.center_hooks.ask,
        )
        self.front = front.Front(self.run_folder, lambda: self._nginx(pki))
        self.registry.on_revoked(self._refresh_front)
        self.services = self._services()
        self.parts: tuple[Part, ...] = (*self._background(), *self._servers())

    def start(self) -> None:
        """Start everything; say in one sentence who we are."""
        self.front.refresh()
        for part in self.parts:
            part.start()
        self.events.record(
            "aggregator_started",
            aggregator=self.config.name,
            term=self.leadership.term,
        )
        logger.info(
            "aggregator %s of fleet %s, term %d, %s: %d members",
            self.config.name,
            self.leadership.fleet_id,
            self.leadership.term,
            "leads" if self.leadership.is_leading else "mirrors",
            len(self.registry.members()),
        )

    def stop(self) -> None:
        """Stop everything, the faces first; it may have to wait for silent nodes."""
        parts = [part.stop for part in reversed(self.parts)]
        for stop in (*parts, self.executor.close, self.events.close):
            begin = self.clock.monotonic()
            stop()
            if (took_s := self.clock.monotonic() - begin) > SLOW_S:
                logger.info("%s took %.1f s", stop.__qualname__, took_s)
        self.database.close()

    def _registry(self) -> Registry:
        return Registry(
            self.database,
            self.authority,
            self.leadership,
            self.events,
            self.clock,
            self.me,
            reach=reach.doorstep,
            call=self.calls.member,
            certificate_days=self.config.node_certificate_days,
            rules=self.hook_rules.of_fleet,
            around=self.center_hooks.around,
        )

    def _how_ended(self, deed: Deed) -> Ending | None:
        view, is_member = self.mirror.view, self.registry.is_member
        return endings.of(deed, self.orders.book, view, is_member)

    def _runner(self) -> Runner:
        """Return what runs our own hooks; BadOption."""
        config = self.config
        user, folder = runner.user(config.hook_user), Path(config.hook_folder)
        return Runner(
            points.POINTS,
            lambda: (folder,),
            self.run_folder / "hooks",
            runner.confine(config.hook_cgroup, user),
            user,
            runner.timeouts(config.hook_timeouts, points.POINTS),
        )

    def _services(self) -> Services:
        return Services(
            self.config,
            self.clock,
            self.database,
            self.mirror,
            self.events,
            self.orders,
            self.registry,
            self.leadership,
            Access(self.database, self.clock, self.events),
            lambda: self.authority.ca_certificate,
            lambda vm_id: self._client_of(vm_id).vm_screenshot(vm_id),
            lambda vm_id, tail: self._client_of(vm_id).vm_serial(vm_id, tail),
            self._client,
            Transfers(lambda: self.mirror.view, self._client),
            self.hook_rules,
            HookBundles(self.registry, self.hook_rules, self._client),
            self.center_hooks,
        )

    def _background(self) -> tuple[Part, ...]:
        upkeep = Upkeep(
            self.registry,
            self.leadership,
            self.authority,
            self.me,
            self.clock,
            self._refresh_front,
            following.Follower(
                self.database,
                self.leadership,
                self.me,
                self.calls.follow,
                self.registry.reload,
            ).follow,
            self.config.upkeep_interval_s,
        )
        parts: tuple[Part, ...] = (
            self.mirror,
            self.center_hooks,
            Loop(self.orders.dispatch, self.mirror, self.clock),
            PoolKeeper(
                self.orders.book,
                self.orders.storage,
                self.orders.pools,
                self.mirror,
                self.events,
                self.clock,
                lambda: self.leadership.is_leading,
            ),
            LimitsKeeper(
                self.orders.book,
                self.orders.storage,
                self.orders.profiles,
                self.mirror,
                self.clock,
                lambda: self.leadership.is_leading,
            ),
            upkeep,
        )
        if not self.config.does_discover:
            return parts
        browser = Browser(self.registry.see, self.registry.lose, self.clock)
        return (*parts, browser)

    def _servers(self) -> tuple[Part, ...]:
        config, services = self.config, self.services
        pages = face.Application("dashboard")
        pages.register_blueprint(dashboard.blueprint(services))
        ovirt = face.Application("rest")
        ovirt.register_blueprint(rest.blueprint(services))
        people = serving.by_prefix(
            pages,
            {
                "/ovirt-engine": ovirt,
                "/v1": api.create(services),
                passage.WHERE: passage.Passage(
                    self.registry.address, services.transfers.port, self.clock
                ),
            },
        )
        is_member = self.registry.is_member
        leader = following.Leader(
            self.database, self.leadership, self.me, self.registry.tell_anew
        )
        others = face.create_app(
            "feed",
            (
                handout.blueprint(self.leadership, is_member),
                following.blueprint(leader.follow),
            ),
            lambda verb, path: None,  # each route asks whose certificate it was
        )
        feed = following.listening(
            ingest.Ingest(self.mirror, is_member, self.leadership.mark).before(others),
            self.leadership.observe,
        )
        doors: tuple[tuple[str, serving.Application, int], ...] = (
            ("people", people, config.people_threads),
            (
                "ingest",
                refusals.Refusals(self.clock).behind(feed),
                config.ingest_threads,
            ),
            ("admission", admission.create_app(self.registry), ADMISSION_THREADS),
        )
        servers = {
            name: serving.Server(
                self.run_folder / f"{name}.sock",
                application,
                threads,
                serving.NGINX_GROUP,
            )
            for name, application, threads in doors
        }
        self.mirror.watch(servers["ingest"].waiting)
        return tuple(servers.values())

    def _nginx(self, pki: Path) -> str:
        return nginx.render(
            nginx.AggregatorFront(
                self.run_folder,
                pki,
                self.config.https_port,
                self.config.feed_port,
                self.config.admission_port,
                front.has_ipv6(),
            )
        )

    def _refresh_front(self) -> None:
        self.front.refresh()

    def _note_superseded(self, term: int, newest: int) -> None:
        self.events.record("aggregator_superseded", term=term, newest=newest)

    def _show_members(self) -> None:
        self.mirror.set_members(self.registry.members())

    def _client_of(self, vm_id: VmId) -> MemberClient:
        vm = self.mirror.view.vms.get(vm_id)
        if vm is None:
            raise NoSuchVm(f"there is no VM {vm_id}", vm_id=vm_id)
        return self._client(vm.node_id)

    def _client(self, node_id: NodeId) -> MemberClient:
        node = routes.up(self.mirror.view, node_id)
        return self.calls.node(self.registry, node)


def run(config: Config) -> None:
    """Run until SIGTERM or SIGINT; SIGHUP loads everything anew."""
    log.configure(config.log_level)
    collector.calm()
    with signals.heard(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as wait:
        aggregator = Aggregator(config)
        aggregator.start()
        pid_file = aggregator.run_folder / PID_FILE
        pid_file.write_text(f"{os.getpid()}\n")
        collector.tidy()
        while (received := wait(TIDY_EVERY_S)) is None:
            collector.tidy()
        logger.info("stopping on %s", received.name)
        has_stopped = ends_within(aggregator.stop, STOP_S)
        pid_file.unlink(missing_ok=True)
    if received is signal.SIGHUP:
        # One more, before we listen again, asks for what we are about to do.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(sys.argv[0], sys.argv)
    if not has_stopped:
        logger.warning("some parts did not stop in %.0f s: leaving them", STOP_S)
        os._exit(0)  # all that was answered is on disk


def ends_within(act: Callable[[], None], deadline_s: float) -> bool:
    """Do something in a thread; tell whether it ended in time."""
    thread = threading.Thread(target=act, name="stop", daemon=True)
    thread.start()
    thread.join(deadline_s)
    return not thread.is_alive()


def _complete(config: Config) -> Config:
    """Return the options with what follows from this machine."""
    name = config.name or socket.gethostname()
    return replace(config, name=name, address=config.address or name)
