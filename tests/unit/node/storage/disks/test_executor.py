"""How plans are carried out, left, resumed, and taken over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from node import jobs
from node.errors import Error
from node.model.ids import NodeId
from node.storage.disks import executor as executors
from node.storage.disks.actions import Home
from node.storage.disks.executor import Executor, Mandate, Order, Outcome
from node.storage.formats import journal
from node.storage.guard import Guard, GuardFiles
from node.storage.operations import plan, volumes
from node.storage.operations.plan import Plan, Step
from node.storage.process.protocol import Need, ResourceAt
from node.storage.spm.journal_folder import JournalFolder
from tests.contract import disks
from tests.contract.disks import House
from tests.fakes.guard import FakeGuard
from tests.fakes.guard import Outcome as Ended
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, OTHER_SD, SD

JOB = "5cc55a2c-0000-4000-8000-000000000001"
FOLDER = PurePosixPath("/", SD, "images", f"_remove_me_{IMAGE}")
RUN = plan.qemu_img(FOLDER, "convert", "-p", "a", "b")
COPY = Step("copy", (plan.make_folder(FOLDER), RUN), (plan.remove_tree(FOLDER),))
NAME = Step("name", (plan.rename(FOLDER, FOLDER.with_name(IMAGE)),))
PLAN = Plan((COPY, NAME), 1)
ORDER = Order(JOB, "copy", IMAGE)


@dataclass(slots=True)
class Watcher:
    """Hears what is said, and stops the operation at its so-many-th look."""

    error: Error | None = None
    looks: int = 0
    said: list[tuple[int, str]] = field(default_factory=list)
    then: Callable[[], None] = lambda: None

    def check(self) -> None:
        self.looks -= 1
        if self.looks < 0 and self.error is not None:
            raise self.error

    def step(self, percent: int, text: str, data_node_id: NodeId | None = None) -> None:
        self.said.append((percent, text))
        if text == "copy: copy" and len(self.said) > 1:
            self.then()


@dataclass(frozen=True, slots=True)
class Place:
    house: House
    guard: Any  # FakeGuard, or what stands before it
    version: int

    def executor(self, *active: str) -> Executor:
        """Return what an agent has after its start; `active` beside the master."""
        need = Need(SD, "SDM", self.version)
        homes = {each: Home(str(self.house.root(each))) for each in (SD, *active)}
        mandate = Mandate("node", self.version, dict.fromkeys(homes, (need,)))
        return Executor(self.guard, homes, SD, mandate)

    @property
    def names(self) -> list[str]:
        folder = self.house.folder / SD / "images"
        return sorted(path.name for path in folder.iterdir())

    @property
    def journal(self) -> Path:
        return self.house.folder / SD / "dom_md" / "skerry" / "journals" / JOB


class Noting:
    """A storage process that remembers which file operations came together."""

    def __init__(self, guard: FakeGuard) -> None:
        self.asked: list[list[str]] = []
        self._guard: Any = guard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._guard, name)

    def file(self, domain: str, root: str, operations: Any, *rest: Any) -> Any:
        self.asked.append([each["name"] for each in operations])
        return self._guard.file(domain, root, operations, *rest)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(executors, "LOOK_S", 0.0)
    house = House(tmp_path)
    house.make()
    manager = disks.Manager.of(house)
    guard: FakeGuard = manager.guard
    guard.programs = {"qemu-img": lambda _argv: None}
    return Place(house, guard, manager.version)


def step_id(place: Place) -> str:
    (step,) = place.guard.steps()
    return str(step.step_id)


def test_execute_tells_how_far_it_is(place: Place) -> None:
    def go_on() -> None:
        if len(watcher.said) > 3:
            place.guard.finish(step_id(place), Ended())
        else:
            place.guard.say(step_id(place), "    (41.70/100%)")

    watcher = Watcher(then=go_on)
    place.executor().execute(ORDER, PLAN, watcher)
    assert (0, "copy: copy") in watcher.said
    assert (41, "copy: copy") in watcher.said
    assert watcher.said[-1] == (100, "copy: name")
    assert place.names == [IMAGE]
    assert not place.journal.exists()
    assert place.guard.steps() == ()


@pytest.mark.parametrize(
    ("last", "is_joined"),
    [
        pytest.param(NAME, True, id="files"),
        pytest.param(replace(NAME, may_refuse=True), False, id="may-be-refused"),
    ],
)
def test_journal_goes_with_a_last_step_that_is_on_disk_before(
    place: Place, last: Step, is_joined: bool
) -> None:
    noting = Noting(place.guard)
    make = Step("make", (plan.make_folder(FOLDER),), (plan.remove_tree(FOLDER),))
    executor = replace(place, guard=noting).executor()
    executor.execute(ORDER, Plan((make, last), 1), Watcher())
    end = [["rename", "settle", "remove"]] if is_joined else [["rename"], ["remove"]]
    assert noting.asked[-len(end) :] == end
    assert not place.journal.exists()


def test_execute_has_a_volume_gone_before_its_metadata_go(place: Place) -> None:
    """Only they tell what the rest is: the power may fail in between."""
    noting = Noting(place.guard)
    volume_id = "cccccccc-0000-4000-8000-000000000001"
    step = Step("remove", volumes.remove_volume(FOLDER.with_name(IMAGE), volume_id))
    replace(place, guard=noting).executor().execute(ORDER, Plan((step,)), Watcher())
    (asked,) = [each for each in noting.asked if "settle" in each]
    metadata_and_mark = ["remove"] * 2
    assert asked == [
        *(*["remove"] * 6, "settle", *metadata_and_mark),
        *("settle", "remove"),  # the journal
    ]


def test_execute_does_nothing_for_an_empty_plan(place: Place) -> None:
    place.executor().execute(ORDER, Plan(), Watcher())
    assert place.names == []


def test_cancelled_before_the_commit_point_is_undone(place: Place) -> None:
    with pytest.raises(jobs.Cancelled):
        place.executor().execute(ORDER, PLAN, Watcher(jobs.Cancelled("no"), 3))
    assert (place.names, place.guard.steps()) == ([], ())
    assert not place.journal.exists()


def test_cancelled_after_the_commit_point_goes_on(place: Place) -> None:
    watcher = Watcher(jobs.Cancelled("no"))
    watcher.then = lambda: place.guard.finish(step_id(place), Ended())
    place.executor().execute(ORDER, replace(PLAN, commit=0), watcher)
    assert place.names == [IMAGE]


@pytest.mark.parametrize("is_ended", [False, True], ids=["runs", "ended"])
def test_program_is_found_again_after_the_agent_stopped(
    place: Place, is_ended: bool
) -> None:
    with pytest.raises(jobs.AgentStopping):
        place.executor().execute(ORDER, PLAN, Watcher(jobs.AgentStopping("now"), 3))
    runs = len(place.guard.runs)
    if is_ended:
        place.guard.finish(step_id(place), Ended())
    watcher = Watcher(then=lambda: place.guard.finish(step_id(place), Ended()))
    assert place.executor().resume(JOB, watcher) is Outcome.FINISHED
    assert len(place.guard.runs) == runs
    assert place.names == [IMAGE]
    assert place.guard.steps() == ()


def test_what_was_being_undone_is_never_resumed(place: Place) -> None:
    with pytest.raises(jobs.AgentStopping):
        place.executor().execute(ORDER, PLAN, Watcher(jobs.AgentStopping("now"), 3))
    place.journal.rename(place.journal.with_suffix(".back"))
    assert place.executor().resume(JOB, Watcher()) is Outcome.UNDONE
    assert (place.names, place.guard.steps()) == ([], ())
    assert list(place.journal.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        pytest.param(
            Ended(1, stderr="x\nbad image\n"), "storage_program_failed", id="no"
        ),
        pytest.param(
            Ended(1, stderr="error: No space left on device"), "storage_full", id="full"
        ),
    ],
)
def test_failed_program_is_undone(place: Place, ended: Ended, code: str) -> None:
    place.guard.programs = {"qemu-img": lambda _argv: ended}
    execute = place.executor().execute
    with pytest.raises(Error, match=r"bad image|No space") as error:
        execute(ORDER, PLAN, Watcher())
    assert error.value.code == code
    assert (place.names, place.guard.steps()) == ([], ())


def test_killed_program_waits_for_the_next_manager(place: Place) -> None:
    watcher = Watcher(then=lambda: place.guard.lose(SD))
    execute = place.executor().execute
    assert disks.code_of(lambda: execute(ORDER, PLAN, watcher)) == (
        "storage_program_killed"
    )
    assert place.journal.exists()
    assert place.names == [FOLDER.name]
    refused = disks.code_of(lambda: place.executor().resume(JOB, Watcher()))
    assert refused == "stale_lease"


def test_execute_refuses_a_job_that_has_a_journal(place: Place) -> None:
    with pytest.raises(jobs.AgentStopping):
        place.executor().execute(ORDER, PLAN, Watcher(jobs.AgentStopping("now"), 3))
    execute = place.executor().execute
    assert disks.code_of(lambda: execute(ORDER, PLAN, Watcher())) == "job_journalled"


def test_execute_refuses_a_storage_domain_that_is_away(place: Place) -> None:
    elsewhere = plan.make_folder(PurePosixPath("/", OTHER_IMAGE, "images", IMAGE))
    execute = place.executor().execute
    away = Plan((Step("build", (elsewhere,)),))
    assert disks.code_of(lambda: execute(ORDER, away, Watcher())) == (
        "storage_domain_away"
    )
    assert not place.journal.exists()


def written(place: Place, **fields: object) -> journal.Journal:
    """Write a journal whose folder was made."""
    made = journal.Journal(1, JOB, "copy", IMAGE, "other", 1, PLAN)
    made = replace(made, **fields)  # type: ignore[arg-type]  # what a test names
    place.journal.write_bytes(journal.write(made))
    (place.house.folder / SD / "images" / FOLDER.name).mkdir()
    return made


@pytest.mark.parametrize(
    ("done", "outcome", "names"),
    [
        pytest.param(0, Outcome.UNDONE, [], id="before-the-commit-point"),
        pytest.param(1, Outcome.FINISHED, [IMAGE], id="after-it"),
    ],
)
def test_recover_takes_over_older_journals(
    place: Place, done: int, outcome: Outcome, names: list[str]
) -> None:
    written(place, done=done, lease_version=place.version - 1)
    (claimed,), _ = place.executor().claim()
    assert claimed.lease_version == place.version
    assert journal.parse(place.journal.read_bytes()) == claimed
    assert place.names == [FOLDER.name], "claiming does nothing else"
    (recovery,) = disks.recover(place.executor())
    assert recovery.outcome is outcome
    assert place.names == names
    assert not place.journal.exists()


def test_journal_of_a_higher_term_is_told_and_left(place: Place) -> None:
    written(place, lease_version=place.version + 1)
    before = place.journal.read_bytes()
    found, (other,) = place.executor().claim()
    assert (found, other.error.code) == ((), "not_storage_manager")
    assert ("", IMAGE) in other.places
    resume = place.executor().resume
    assert disks.code_of(lambda: resume(JOB, Watcher())) == "not_storage_manager"
    assert place.journal.read_bytes() == before
    assert place.names == [FOLDER.name]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"half", "journal_damaged", id="damaged"),
        pytest.param(b"", "journal_damaged", id="empty"),
    ],
)
def test_recover_tells_of_journals_that_it_cannot_read(
    place: Place, data: bytes, code: str
) -> None:
    place.journal.write_bytes(data)
    place.journal.with_name(f"{OTHER_IMAGE}.new").write_bytes(b"half")
    (recovery,) = disks.recover(place.executor())
    assert recovery.outcome is None
    assert recovery.error is not None
    assert recovery.error.code == code
    assert [path.name for path in place.journal.parent.iterdir()] == [JOB]
    assert place.journal.read_bytes() == data


def test_claim_leaves_a_journal_that_its_job_is_writing(place: Place) -> None:
    """Its name comes a moment later; what nobody writes is removed."""
    names = [f"{JOB}.new", f"{OTHER_IMAGE}.new"]
    for name in names:
        place.journal.with_name(name).write_bytes(b"half")
    place.executor().claim(lambda job_id: job_id == JOB)
    assert [path.name for path in place.journal.parent.iterdir()] == names[:1]


def test_recover_leaves_what_needs_a_storage_domain_that_is_away(place: Place) -> None:
    elsewhere = plan.make_folder(PurePosixPath("/", OTHER_IMAGE, "images", IMAGE))
    away = Plan((Step("build", (elsewhere,)),))
    written(place, plan=away, lease_version=place.version)
    (recovery,) = disks.recover(place.executor())
    assert recovery.outcome is None
    assert place.journal.exists()


def test_recover_forgets_programs_without_a_journal(place: Place) -> None:
    guard = place.guard
    guard.programs = {"qemu-img": lambda _argv: Ended()}
    FakeGuard.run(guard, f"disk.{JOB}.1.0.1", ["qemu-img"])
    FakeGuard.run(guard, "upload.1", ["qemu-img"])
    assert disks.recover(place.executor()) == ()
    assert [step.step_id for step in guard.steps()] == ["upload.1"]


def test_resume_says_when_the_job_has_ended(place: Place) -> None:
    resume = place.executor().resume
    assert disks.code_of(lambda: resume(JOB, Watcher())) == "journal_gone"


MARK = PurePosixPath("/", SD, "images", OTHER_IMAGE, "mark")
AWAY = PurePosixPath("/", OTHER_SD, "images", f"_remove_me_{OTHER_IMAGE}")
FREEZE = Step("freeze", (plan.write(MARK, "no"),), (plan.write(MARK, "yes"),))
# As a move: the source is frozen, and the target built.
MOVE = Plan(
    (
        FREEZE,
        Step("copy", (plan.make_folder(AWAY),), (plan.remove_tree(AWAY),)),
        Step("publish", (plan.rename(AWAY, AWAY.with_name(OTHER_IMAGE)),)),
    ),
    2,
)


@pytest.fixture
def moving(place: Place) -> Place:
    """Return a place where a move was left after its first step."""
    target = place.house.folder / SD / "images" / OTHER_IMAGE
    target.mkdir()
    (target / "mark").write_text("no")
    made = journal.Journal(1, JOB, "move", OTHER_IMAGE, "other", 1, MOVE, 1)
    place.journal.write_bytes(journal.write(made))
    return place


def mark(place: Place) -> Path:
    return place.house.folder / SD / "images" / OTHER_IMAGE / "mark"


def test_undo_does_not_wait_for_another_storage_domain(moving: Place) -> None:
    executor = moving.executor()
    (recovery,) = disks.recover(executor)
    assert recovery.error is not None
    assert recovery.error.code == "storage_domain_away"
    assert mark(moving).read_text() == "yes"
    rest = executor.find(JOB)
    assert rest.places() == {(OTHER_SD, OTHER_IMAGE)}
    assert rest.shown() == frozenset()
    # Somebody works on the source since then: that is not undone.
    mark(moving).write_text("later")
    workshop = moving.house.folder / OTHER_SD / "images" / AWAY.name
    workshop.mkdir()
    (recovery,) = disks.recover(moving.executor(OTHER_SD))
    assert recovery.outcome is Outcome.UNDONE
    assert mark(moving).read_text() == "later"
    assert not workshop.exists()
    assert list(moving.journal.parent.iterdir()) == []


def test_undo_passes_over_a_storage_where_a_program_hangs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan.qemu_img(AWAY, "convert", "a", "b")
    copy = Step("copy", (plan.make_folder(AWAY), run), (plan.remove_tree(AWAY),))
    mark(place).parent.mkdir()
    guard = place.guard
    monkeypatch.setattr(
        FakeGuard, "cancel", lambda _self, step_id: guard.wait(step_id, 0)
    )
    watcher = Watcher(jobs.Cancelled("no"), 5)
    execute = place.executor(OTHER_SD).execute
    with pytest.raises(jobs.Cancelled):
        execute(Order(JOB, "move", OTHER_IMAGE), Plan((FREEZE, copy), 2), watcher)
    assert guard.steps(), "it hangs"
    assert mark(place).read_text() == "yes"
    (other,) = place.executor(OTHER_SD).places()
    assert other == {(OTHER_SD, OTHER_IMAGE)}
    workshop = place.house.folder / OTHER_SD / "images" / AWAY.name
    for _ in range(2):  # it hangs as before
        (recovery,) = disks.recover(place.executor(OTHER_SD))
        assert recovery.error is not None
        assert recovery.error.code == "step_runs"
        assert workshop.exists()
        assert place.executor(OTHER_SD).places() == (other,)
    guard.finish(step_id(place), Ended(-9))
    (recovery,) = disks.recover(place.executor(OTHER_SD))
    assert recovery.outcome is Outcome.UNDONE
    assert not workshop.exists()


@pytest.mark.parametrize("is_readable", [True, False], ids=["readable", "damaged"])
def test_execute_refuses_a_disk_that_another_journal_names(
    place: Place, is_readable: bool
) -> None:
    written(place)
    if not is_readable:
        place.journal.write_bytes(place.journal.read_bytes() + b"x")
    execute = place.executor().execute
    second = Order(OTHER_IMAGE, "copy", IMAGE)
    before = place.names
    assert disks.code_of(lambda: execute(second, PLAN, Watcher())) == "disk_journalled"
    assert place.names == before
    other = Plan((FREEZE,), 1)
    mark(place).parent.mkdir()
    execute(Order(OTHER_IMAGE, "copy", OTHER_IMAGE), other, Watcher())
    assert mark(place).read_text() == "no"


def fill(place: Place) -> None:
    """Let no file be written any more."""
    guard = place.guard
    assert isinstance(guard, disks.StoppingGuard)
    guard.refuse_at, guard.stays_full = -1, True


def test_direction_is_decided_without_space(place: Place) -> None:
    """A refused step behind the commit point is undone, whoever does it."""
    written(place, plan=replace(PLAN, commit=0), lease_version=place.version)
    guard = place.guard
    fill(place)
    files = GuardFiles(guard, SD, str(place.house.root(SD)))
    folder = JournalFolder(files, str(place.house.root(SD)), place.version)
    assert folder.find(JOB).is_committed
    folder.turn_back(folder.find(JOB))
    assert place.executor().resume(JOB, Watcher()) is Outcome.UNDONE
    assert place.names == []


def test_full_storage_does_not_keep_an_older_journal_from_being_undone(
    place: Place,
) -> None:
    written(place)
    fill(place)
    assert [each.outcome for each in disks.recover(place.executor())] == [
        Outcome.UNDONE
    ]
    assert place.names == []


def test_lease_is_formatted_under_the_managers_leases(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[Sequence[Need]] = []

    def note(_: Guard, resource: ResourceAt, needs: Sequence[Need] = ()) -> None:
        assert resource.lockspace == SD
        named.append(needs)

    monkeypatch.setattr(FakeGuard, "write_resource", note)
    lease = FOLDER / f"{IMAGE}.lease"
    made = Plan((Step("build", (plan.write_resource(lease),)),))
    place.executor().execute(ORDER, made, Watcher())
    assert named == [(Need(SD, "SDM", place.version),)]


def test_two_journals_of_one_job_are_told(place: Place) -> None:
    written(place)
    place.journal.with_suffix(".back").write_bytes(place.journal.read_bytes())
    found, (other,) = place.executor().claim()
    assert (found, other.error.code) == ((), "journal_damaged")
    assert ("", IMAGE) in other.places


def test_program_whose_lease_was_taken_anew_is_started_again(place: Place) -> None:
    with pytest.raises(jobs.AgentStopping):
        place.executor().execute(ORDER, PLAN, Watcher(jobs.AgentStopping("now"), 3))
    place.guard.finish(step_id(place), Ended(-9))
    place.guard.programs = {"qemu-img": lambda _argv: Ended()}
    newer = (Need(SD, "SDM", place.version), spm_of_other(place))
    mandate = Mandate("node", place.version, {SD: newer})
    homes = {SD: Home(str(place.house.root(SD)))}
    again = Executor(place.guard, homes, SD, mandate)
    runs = len(place.guard.runs)
    assert again.resume(JOB, Watcher()) is Outcome.FINISHED
    assert len(place.guard.runs) == runs + 1


def spm_of_other(place: Place) -> Need:
    other = disks.spm(place.house.sites[1])
    return Need(OTHER_SD, "SDM", place.guard.acquire(other))
