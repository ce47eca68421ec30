"""Three hosts with one storage: a manager, a node that moves data, and a third.

An agent reaches its storage process over a line that can break before or after any
call that changes something, or hold it up. All is played in one thread, but what an
agent that is held up does.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from node.model.ids import NodeId
from node.storage.data import volume_leases
from node.storage.data.assigner import Assigner, Choose, Member, Patience
from node.storage.data.hand import Ground, Hand, Seat
from node.storage.data.slots import Board
from node.storage.data.volume_leases import VolumeLeases
from node.storage.disks.actions import Home, Homes
from node.storage.disks.executor import Executor, Mandate, NobodyWatches, Order, Watch
from node.storage.formats import layout
from node.storage.formats.layout import Layout
from node.storage.guard import FILE_DEADLINE_S, GuardFiles
from node.storage.operations.plan import Action, Plan
from node.storage.process.protocol import LockspaceAt, Need, ResourceAt, Step
from tests.contract import disks
from tests.contract.disks import READS, Crash, House
from tests.fakes.clock import FakeClock
from tests.fakes.guard import FakeGuard, Outcome
from tests.fakes.leases import FakeLeaseStorage
from tests.unit.node.storage.examples import SD

V1, V2, V3 = (f"70100000-0000-4000-8000-00000000000{n}" for n in range(1, 4))
BASES = {V2: V1}  # what a volume is merged into
JOB = "5cc55a2c-0000-4000-8000-000000000001"
HOSTS = (1, 2, 3)
PATIENCE = Patience(take_s=20.0, silence_s=20.0, fence_s=60.0, look_s=1.0)
WAIT_S = 30.0  # nothing here takes so long unless it is broken
LOOKS = 3  # that a program runs for


@dataclass(slots=True)
class Witness:
    """Who writes to which file, from when to when: told by nobody who writes."""

    writing: dict[str, int] = field(default_factory=dict)  # host by file
    overlaps: list[str] = field(default_factory=list)
    runs: list[tuple[int, str]] = field(default_factory=list)

    def begin(self, host_id: int, path: str) -> None:
        if path in self.writing:
            self.overlaps.append(f"{host_id} and {self.writing[path]}: {path}")
        self.writing[path] = host_id
        self.runs.append((host_id, path))

    def end(self, path: str) -> None:
        self.writing.pop(path, None)


@dataclass(slots=True)
class Machine(FakeGuard):
    """A host's storage process, whose programs take a few looks."""

    host_id: int = 0
    witness: Witness = field(default_factory=Witness)
    fails: Outcome | None = None  # how programs end, if not well
    undying: set[str] = field(default_factory=set)  # steps that hang when killed
    meta_waits_s: list[float] = field(default_factory=list)  # for metadata, at most
    _left: dict[str, int] = field(default_factory=dict)
    # What programs write to: a file stays theirs when another takes its name.
    _open: dict[str, int] = field(default_factory=dict)

    def run(
        self,
        step_id: str,
        argv: Sequence[str],
        needs: Sequence[Need] = (),
        folder: str = "/",
    ) -> Step:
        is_new = step_id not in self._steps
        done = FakeGuard.run(self, step_id, argv, needs, folder)
        if is_new:
            self._left[step_id] = LOOKS
            target = self._target(step_id)
            self.witness.begin(self.host_id, target)
            self._open[step_id] = os.open(target, os.O_RDWR | os.O_CREAT, 0o660)
        return done

    def wait(self, step_id: str, timeout_s: float) -> Step:
        return FakeGuard.wait(self, step_id, 0.0)

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = FILE_DEADLINE_S,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        if any(str(each.get("path", "")).endswith(layout.META) for each in operations):
            self.meta_waits_s.append(deadline_s)
        return FakeGuard.file(self, domain, root, operations, deadline_s, needs)

    def cancel(self, step_id: str) -> Step:
        if step_id in self.undying:
            return FakeGuard.wait(self, step_id, 0.0)
        return FakeGuard.cancel(self, step_id)

    def progress(self, step_id: str) -> str:
        """Let a program go on: who looks at one that runs asks how far it is."""
        self._left[step_id] = self._left.get(step_id, 0) - 1
        if self._left[step_id] <= 0 and self._steps[step_id].outcome is None:
            if self.fails is None:
                self._write(step_id)
            self.finish(step_id, self.fails or Outcome())
        return FakeGuard.progress(self, step_id)

    def power_off(self) -> None:
        """End all that this host does, as a cut of its power."""
        for step_id, each in self._steps.items():
            if each.outcome is None:
                self._close(step_id)

    def _end(self, step_id: str, outcome: Outcome, was_lost: bool = False) -> None:
        if self._steps[step_id].outcome is None:
            self._close(step_id)
        FakeGuard._end(self, step_id, outcome, was_lost)

    def _close(self, step_id: str) -> None:
        self.witness.end(self._target(step_id))
        opened = self._open.pop(step_id, None)  # a host dies but once
        if opened is not None:
            os.close(opened)

    def _target(self, step_id: str) -> str:
        request = self._steps[step_id].request
        name = request.argv[-1]
        if request.argv[1] == "commit":
            name = BASES[name]
        return str(Path(request.folder, name))

    def _write(self, step_id: str) -> None:
        request = self._steps[step_id].request
        words, target = request.argv, self._open[step_id]
        if words[1] == "convert":
            data = Path(request.folder, words[-2]).read_bytes()
            os.ftruncate(target, len(data))
            os.pwrite(target, data, 0)
        elif words[1] == "commit":
            os.pwrite(target, b"merged", 0)


@dataclass(slots=True)
class Line:
    """An agent's way to its storage process: a `Guard`."""

    machine: Machine
    breaks_at: int | None = None  # the number of a moment: two for each call
    holds_at: int | None = None
    moments: int = 0
    is_broken: bool = False
    told: list[str] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.machine, name)
        if name not in CHANGES:
            return lambda *args, **more: self._pass(None, method, *args, **more)
        return lambda *args, **more: self._pass(name, method, *args, **more)

    def file(
        self,
        domain: str,
        root: str,
        operations: Sequence[Mapping[str, Any]],
        deadline_s: float = FILE_DEADLINE_S,
        needs: Sequence[Need] = (),
    ) -> tuple[Any, ...]:
        names = [str(each["name"]) for each in operations]
        name = None if set(names) <= READS else "+".join(names)
        arguments = (domain, root, operations, deadline_s, needs)
        done: tuple[Any, ...] = self._pass(name, self.machine.file, *arguments)
        return done

    def _pass(
        self, name: str | None, act: Callable[..., Any], *args: Any, **more: Any
    ) -> Any:
        if self.is_broken:
            raise Crash("the agent is dead")
        if name is None:
            return act(*args, **more)
        self.told.append(name)
        self._moment()
        done = act(*args, **more)
        self._moment()
        return done

    def _moment(self) -> None:
        number, self.moments = self.moments, self.moments + 1
        if number == self.breaks_at:
            self.is_broken = True
            raise Crash(f"moment {number}")
        if number == self.holds_at:
            self.held.set()
            assert self.released.wait(WAIT_S), "nobody lets it go on"


CHANGES = frozenset({"acquire", "release", "write_resource", "run", "cancel", "forget"})


@dataclass(slots=True)
class World:
    """The hosts; `pass_time` is what the manager's waits do."""

    house: House
    leases: FakeLeaseStorage = field(default_factory=FakeLeaseStorage)
    witness: Witness = field(default_factory=Witness)
    clock: FakeClock = field(default_factory=FakeClock)
    machines: dict[int, Machine] = field(default_factory=dict)
    shared: dict[int, VolumeLeases] = field(default_factory=dict)
    hand: Hand | None = None
    hand_line: Line | None = None
    hand_thread: threading.Thread | None = None
    # What happens when the hand's agent has died; called once in each pause.
    on_pause: Callable[[], None] = lambda: None
    chosen: tuple[Member, ...] = (Member(NodeId("node-2"), 2),)
    is_master_gone: bool = False  # for the hand
    is_leaving: bool = False  # the manager
    own: frozenset[str] = frozenset()  # the volumes that the manager fills itself

    @classmethod
    def make(cls, folder: Path) -> "World":
        house = House(folder)
        house.make()
        made = cls(house)
        for host_id in HOSTS:
            machine = Machine(
                storage=made.leases,
                machine=str(host_id),
                host_id=host_id,
                witness=made.witness,
            )
            machine.programs = {"qemu-img": lambda _argv: None}
            made.machines[host_id] = machine
            for site in house.sites:
                space = LockspaceAt(
                    site.storage_domain_id, f"/{site.storage_domain_id}"
                )
                if host_id == 1:
                    machine.write_lockspace(space)
                    machine.write_resource(disks.spm(site))
                machine.join(space, host_id)
        return made

    @property
    def homes(self) -> dict[str, Home]:
        return {
            site.storage_domain_id: Home(str(self.house.root(site.storage_domain_id)))
            for site in self.house.sites
        }

    def board(self, guard: Any, needs: Sequence[Need] = ()) -> Board:
        root = self.house.root(SD)
        files = GuardFiles(guard, SD, str(root), needs)
        return Board(files, str(Layout(root).data_jobs))

    def executor(
        self, line: Any, host_id: int, choose: Choose | None = None
    ) -> Executor:
        """Let an agent of a host be manager."""
        version = self.machines[host_id].acquire(disks.spm(self.house.sites[0]))
        need = Need(SD, layout.SPM_RESOURCE, version)
        homes = self.homes
        mandate = Mandate(f"node-{host_id}", version, dict.fromkeys(homes, (need,)))
        if host_id != 2 or host_id not in self.shared:  # there its hand goes on
            self.shared[host_id] = VolumeLeases()
        assigner = Assigner(
            *(line, Homes(homes), self.board(line, (need,)), self.shared[host_id]),
            choose or self.choose,
            is_leaving=lambda: self.is_leaving,
            patience=PATIENCE,
            monotonic=self.clock.monotonic,
            sleep=self.pass_time,
        )
        return Executor(line, homes, SD, mandate, assigner=assigner)

    def choose(self, action: Action, tried: tuple[str, ...]) -> Member | None:
        if PurePosixPath(action.target).name in self.own:
            return None
        left = [each for each in self.chosen if each.node_id not in tried]
        return left[0] if left else None

    def start_hand(
        self, line: Line, host_id: int = 2, leases: VolumeLeases | None = None
    ) -> None:
        """Start the agent of a node that moves data; `leases`: it manages already."""
        homes = Homes(self.homes)
        self.shared[host_id] = leases = leases or VolumeLeases()
        board = self.board(line)
        self.hand_line = line
        self.hand = Hand(
            *(line, "pool", NodeId(f"node-{host_id}"), self.clock, leases),
            lambda: Ground(
                homes, None if self.is_master_gone else Seat(host_id, board)
            ),
        )

    def tidy(self, line: Line, host_id: int) -> None:
        """Let a manager's node do what each does: give back what its agent left."""
        if host_id != 2:  # there its hand goes on
            volume_leases.give_back(
                line,
                Homes(self.homes),
                self.shared[host_id],
            )

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.look()
        self.on_pause()

    def look(self) -> None:
        """Let the hand look once, unless it is held up or dead."""
        thread, line = self.hand_thread, self.hand_line
        if self.hand is None or line is None or line.is_broken:
            return
        if thread is not None and thread.is_alive():
            return
        if line.holds_at is None:
            _look(self.hand)
            return
        thread = threading.Thread(target=_look, args=(self.hand,), daemon=True)
        self.hand_thread = thread
        thread.start()
        while thread.is_alive() and not line.held.wait(0.002):
            thread.join(0.0)
        if not line.held.is_set():
            thread.join(WAIT_S)

    def let_go_on(self) -> None:
        """End the hold-up of a hand, and let it look a few times more."""
        line, thread = self.hand_line, self.hand_thread
        assert line is not None
        line.released.set()
        line.holds_at = None
        if thread is not None:
            thread.join(WAIT_S)
        self.settle_down()

    def settle_down(self) -> None:
        for _ in range(12):
            self.clock.advance(1.0)
            self.look()

    def die(self, host_id: int) -> None:
        """Cut a host's power; its leases are free."""
        self.machines[host_id].power_off()
        for site in self.house.sites:
            self.leases.die(site.storage_domain_id, host_id)

    def volume_leases(self) -> list[str]:
        """Return the volumes' leases that are held by anybody."""
        return [
            f"{name} by {lease.owner.host_id}"
            for (_, name), lease in self.leases.leases.items()
            if name != layout.SPM_RESOURCE
            and lease.owner is not None
            and self.lives(lease.owner.host_id)
        ]

    def lives(self, host_id: int) -> bool:
        host = self.leases.lockspaces[SD][host_id]
        return host.liveness.value == "live"

    def orders(self) -> list[str]:
        said = [self.board(self.machines[3]).orders(each) for each in HOSTS]
        return [o.order_id for each in said if each is not None for o in each.orders]


def _look(hand: Hand) -> None:
    with contextlib.suppress(Crash):  # its line is broken: whoever plays sees that
        hand.look()


def execute(executor: Executor, plan: Plan, watch: Watch | None = None) -> None:
    executor.execute(Order(JOB, "copy", JOB), plan, watch or NobodyWatches())


def resource(lockspace: str, name: str, path: Path) -> ResourceAt:
    return ResourceAt(lockspace, name, str(path), 0)
