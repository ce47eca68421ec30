"""Run the scripts of a hook point, one after the other, by VDSM's contract.

    status 0   well
    1, others  it failed; the scripts after it run all the same
    2          it failed, and no more scripts run

All edit one file, each what the one before has left. An edit that nobody can read is
taken back, and its script has failed. When a script may abort what is about to be done
and one has failed, HookFailed is raised after the last one.

A script has a clean environment: its VM's id, custom properties under their own names,
the payload's path, and where `hooking` is. It runs in bounds (`node.system.confined`).
Which points there are says a table that the runner is given.
"""

import contextlib
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from lxml import etree

from node.errors import Conflict, Error
from node.hooks import folders
from node.hooks.folders import Found
from node.model.hooks import (
    HookList,
    HookRun,
    HookScript,
    Payload,
    Point,
    PointFacts,
)
from node.model.options import BadOption
from node.system.confined import Bounds, Confinement, Ended, User
from node.units import MiB

log = logging.getLogger(__name__)

_RUN: Final = "run-"
STOPS: Final = 2  # the status after which no more scripts run
# A domain's XML has some 20 KiB.
PAYLOAD_MAX: Final = 8 * 1024 * 1024
# Of a script and all that it starts: an interpreter has some 30 MiB.
MEMORY_BYTES: Final = 512 * MiB
_LOGGED_MAX: Final = 40  # lines of what one script says
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Where `hooking` lies beside the product, and the names of VDSM's that scripts import.
LIBRARY: Final = Path(__file__).parents[2] / "hooks"


class HookFailed(Conflict):
    """A script forbids what was about to be done, or could not say that it may."""

    code = "hook_failed"
    remedy = "Do what the script asks for, or mend the script."


class Confine(Protocol):
    """Who runs a script; `node.system.confined` does."""

    def run(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        bounds: Bounds,
        folder: str = "/",
    ) -> Ended: ...

    def clear(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a point's scripts are run about."""

    point: str  # its name
    payload: bytes = b""
    variables: Mapping[str, str] | None = None  # custom properties, and the point's own
    vm_id: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the payload, and how each script went."""

    payload: bytes
    runs: tuple[HookRun, ...] = ()
    refused: tuple[Found, ...] = ()
    # Each script that changed the payload, with what it was after it; where that counts
    edits: tuple[tuple[str, bytes], ...] = ()

    @property
    def problem(self) -> str:
        """Return what the last script that failed gives as the reason; empty: none."""
        problems = [f"{e.script}: {e.problem}" for e in self.runs if e.problem]
        return problems[-1] if problems else ""


# Returns why a payload is not taken; empty: it is.
Judge = Callable[[bytes], str]


class Runner:
    """Runs hooks. Any thread may call."""

    def __init__(
        self,
        points: Mapping[str, Point],
        roots: Callable[[], Sequence[Path]],
        run_folder: Path,
        confinement: Confine,
        user: User | None,
        timeouts_s: Mapping[str, float] | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        """`points` by name; `roots` returns the folders of hooks as they are now.

        Payloads lie in `run_folder`, as `user`'s.

        `timeouts_s` are those of points that have others than the table says.
        """
        self._points = points
        self._roots = roots
        self._run_folder = run_folder
        self._confinement = confinement
        self._user = user if os.geteuid() == 0 else None
        self._timeouts_s = timeouts_s or {}
        self._memory_bytes = memory_bytes

    @property
    def roots(self) -> tuple[Path, ...]:
        return tuple(self._roots())

    def clear(self) -> None:
        """End and remove what an earlier process of ours has left."""
        self._confinement.clear()
        for folder in self._run_folder.glob(f"{_RUN}*"):
            shutil.rmtree(folder, ignore_errors=True)

    def has_scripts(self, point: str) -> bool:
        """Tell whether anything is in a point's folder that is meant to run."""
        return bool(folders.find(self.roots, point))

    def scripts(self) -> tuple[HookScript, ...]:
        """Return all scripts, by point and in the order in which they run."""
        found = folders.find_all(self.roots, self._points)
        return tuple(map(folders.describe, found))

    def list(self) -> HookList:
        """Return the scripts, and what those of each point may do."""
        points = tuple(
            PointFacts(
                name,
                point.payload.value,
                point.may_abort,
                point.counts,
                self.timeout_s(name),
                point.waits_for,
            )
            for name, point in self._points.items()
        )
        return HookList(self.scripts(), points, tuple(map(str, self.roots)))

    def run(self, occasion: Occasion, judge: Judge | None = None) -> Outcome:
        """Run a point's scripts, and return what they made of the payload.

        `judge` is asked about each edit that counts. Raises HookFailed.
        """
        outcome = self.attempt(occasion, judge)
        self.check(occasion.point, outcome)
        return outcome

    def attempt(self, occasion: Occasion, judge: Judge | None = None) -> Outcome:
        """As `run`, and raise nothing for what scripts do."""
        found = folders.find(self.roots, occasion.point)
        refused = tuple(each for each in found if each.refused)
        for each in refused:
            log.warning("hook %s does not run: %s", each.path, each.refused)
        scripts = [each for each in found if not each.refused]
        if not scripts:
            return Outcome(occasion.payload, refused=refused)
        with self._folder() as folder:
            outcome = self._run_all(occasion, scripts, judge, folder)
        return replace(outcome, refused=refused)

    def check(self, point: str, outcome: Outcome) -> None:
        """Raise HookFailed if a script has, where that ends what is to be done."""
        if outcome.problem and self._points[point].may_abort:
            failed = [each.script for each in outcome.runs if each.problem]
            raise HookFailed(
                f"{point}: {outcome.problem}", point=str(point), script=failed[-1]
            )

    def _run_all(
        self,
        occasion: Occasion,
        scripts: Sequence[Found],
        judge: Judge | None,
        folder: Path,
    ) -> Outcome:
        file = folder / "payload"
        point = self._points[occasion.point]
        has_file = point.payload is not Payload.NONE
        runs: list[HookRun] = []
        edits: list[tuple[str, bytes]] = []
        payload = self._put(file, occasion.payload) if has_file else b""
        for script in scripts:
            run = self._run_one(occasion, script, file, folder)
            if has_file:
                edited, problem = self._take(file, payload, point.payload)
                if not problem and point.counts and judge is not None:
                    problem = judge(edited) if edited != payload else ""
                if problem:
                    self._put(file, payload)
                    run = replace(run, problem=run.problem or problem)
                elif edited != payload:
                    edits.append((script.name, edited))
                    payload = edited
            runs.append(run)
            _tell(occasion, run)
            if run.status == STOPS:
                break
        if not point.counts:
            return Outcome(occasion.payload, tuple(runs))
        return Outcome(payload, tuple(runs), edits=tuple(edits))

    def _run_one(
        self, occasion: Occasion, script: Found, file: Path, folder: Path
    ) -> HookRun:
        bounds = Bounds(self.timeout_s(occasion.point), self._memory_bytes)
        env = self._environment(occasion, file, folder)
        try:
            ended = self._confinement.run([str(script.path)], env, bounds, str(folder))
        except Error as error:  # it cannot be started: its interpreter is not there
            return HookRun(script.name, -1, 0.0, problem=str(error))
        said = ended.said.strip()
        if ended.lost_bytes:
            said += f"\n({ended.lost_bytes} bytes more)"
        problem = explain(ended, bounds)
        return HookRun(script.name, ended.status, round(ended.took_s, 3), said, problem)

    def timeout_s(self, point: str) -> float:
        """Return how long each script of a point may take."""
        return self._timeouts_s.get(point, self._points[point].timeout_s)

    def _environment(
        self, occasion: Occasion, file: Path, folder: Path
    ) -> dict[str, str]:
        env = {
            **(occasion.variables or {}),
            "PATH": _PATH,
            "LC_ALL": "C.UTF-8",
            "HOME": str(folder),
            "PYTHONPATH": str(LIBRARY),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SKERRY_HOOKS_RUN": str(self._run_folder / "state"),
        }
        if occasion.vm_id:
            env["vmId"] = occasion.vm_id
        payload = self._points[occasion.point].payload
        if payload is not Payload.NONE:
            env[payload.variable] = str(file)
        return env

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        """Return a folder of its own for one occasion, which scripts may write to."""
        make_folder(self._run_folder, 0o755)
        self._give(make_folder(self._run_folder / "state", 0o700))
        folder = Path(tempfile.mkdtemp(prefix=_RUN, dir=self._run_folder))
        try:
            self._give(folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _put(self, file: Path, payload: bytes) -> bytes:
        """Write the payload anew, whatever lies there; return it."""
        with contextlib.suppress(FileNotFoundError):
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            else:
                file.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(file, flags, 0o600), "wb") as written:
            written.write(payload)
        self._give(file)
        return payload

    def _take(self, file: Path, before: bytes, kind: Payload) -> tuple[bytes, str]:
        """Return what a script has left, and why it is not taken; empty: it is."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with open(os.open(file, flags), "rb") as left:
                if not stat.S_ISREG(os.fstat(left.fileno()).st_mode):
                    return (
                        before,
                        "it left something else than a file",
                    )
                payload = left.read(PAYLOAD_MAX + 1)
        except OSError as error:
            return before, f"it left no file that can be read: {error.strerror}"
        if len(payload) > PAYLOAD_MAX:
            return before, f"it wrote more than {PAYLOAD_MAX} bytes"
        return payload, "" if payload == before else unreadable(payload, kind)

    def _give(self, path: Path) -> None:
        if self._user is not None:
            os.chown(path, self._user.uid, self._user.gid, follow_symlinks=False)


def make_folder(path: Path, mode: int) -> Path:
    """Make a folder if it is not there, and return it."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    return path


def confine(group: str, user: User | None) -> Confinement:
    """Return what runs scripts as a user, in cgroups below one of that name."""
    return Confinement(group, user)


def user(text: str) -> User:
    """Return who runs scripts, from an option; BadOption. Pure."""
    uid, _, gid = text.partition(":")
    if not (uid.isdecimal() and gid.isdecimal()):
        raise BadOption(f"hook_user: {text!r} is not uid:gid in figures")
    return User(int(uid), int(gid))


def timeouts(text: str, points: Container[str]) -> Mapping[str, float]:
    """Return other deadlines than a table's, from an option; BadOption. Pure."""
    found: dict[str, float] = {}
    for each in filter(None, text.replace(" ", "").split(",")):
        point, _, seconds = each.partition("=")
        if point not in points or not seconds.replace(".", "", 1).isdecimal():
            raise BadOption(f"hook_timeouts: {each!r} is not point=seconds")
        found[point] = float(seconds)
    return found


def explain(ended: Ended, bounds: Bounds) -> str:
    """Return why a script has failed; empty: it has not. Pure."""
    last = ended.said.strip().rpartition("\n")[2]
    if ended.is_late:
        return f"it was ended after {bounds.timeout_s:g} s"
    if ended.is_out_of_memory:
        return f"it was ended: it wanted more than {bounds.memory_bytes >> 20} MiB"
    if ended.status < 0:
        return f"signal {-ended.status} ended it"
    if ended.status > 0:
        return last or f"it ended with status {ended.status}, and said nothing"
    return ""


def unreadable(payload: bytes, kind: Payload) -> str:
    """Return why a payload cannot be read; empty: it can. Pure."""
    try:
        if kind is Payload.JSON:
            json.loads(payload)
        else:
            _parse(payload)
    except (ValueError, etree.XMLSyntaxError) as error:
        what = "JSON" if kind is Payload.JSON else "XML"
        return f"it left what is no {what}: {error}"
    return ""


def _parse(payload: bytes) -> None:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    root = etree.fromstring(payload, parser)
    if _has_type(root.getroottree()):  # entities, and files of this host
        raise ValueError("it has a document type")


def _has_type(tree: Any) -> bool:
    return bool(tree.docinfo.doctype)


def _tell(occasion: Occasion, run: HookRun) -> None:
    """Log how a script went, and what it said."""
    where = f"{occasion.point}/{run.script}"
    for line in run.said.splitlines()[:_LOGGED_MAX]:
        log.info("hook %s: %s", where, line)
    if run.problem:
        about = f" of VM {occasion.vm_id}" if occasion.vm_id else ""
        log.warning("hook %s%s failed: %s", where, about, run.problem)
    else:
        log.debug("hook %s: %.3f s", where, run.took_s)
