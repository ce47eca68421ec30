"""Be the storage process: `python -m node.storage.process --run-folder FOLDER`.

It starts in this order, since what an earlier one left must be dead before this one
can own anything: the lock (there is one of us), the cgroup (all in it is killed), the
socket. sanlock hears of us when the first lease is acquired.
"""

import argparse
import fcntl
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from node import log as logs
from node.errors import Busy, Error
from node.storage.process import cgroup, kill, protocol, server, threads
from node.storage.process.children import Children
from node.storage.process.holdings import Holdings
from node.storage.process.launch import STORAGE_ID, User
from node.storage.process.local_leases import LeasesByName, LocalLeases
from node.storage.process.protocol import FileReplies, FileWork
from node.storage.process.sessions import OURSELVES, Sessions
from node.storage.process.steps import Runner
from node.storage.process.workers import Workers
from node.system import cgroups
from node.system.leases import Killpath, Leases, SanlockLeases
from node.units import KiB

log = logging.getLogger(__name__)

SOCKET: Final = protocol.SOCKET
LOCK: Final = "storage.lock"
RUN_FOLDER: Final = Path("/run/skerry")
PYTHON: Final = Path("/usr/bin/python3")

_STACK_BYTES: Final = 512 * KiB  # of a connection's thread: there may be a hundred
_WATCH_S: Final = 2.0  # how soon we know that sanlock itself is gone


class AlreadyRunning(Busy):
    """Another storage process has this run folder."""

    code = "storage_process_running"
    remedy = "There can be one: end the other one first."


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    options = _parse(sys.argv[1:])
    logs.configure(options.log_level)
    try:
        serve(options.run_folder, options.cgroup, _user(options.user), SanlockLeases)
    except Error as error:
        log.error("%s %s", error, error.remedy)
        sys.exit(1)


def serve(
    run_folder: Path,
    group_name: str,
    user: User | None,
    open_door: Callable[[Callable[[str], Killpath]], Leases],
) -> None:
    """Be the storage process in this thread, which must be the main one."""
    run_folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(run_folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyRunning(f"another one runs in {run_folder}") from error
    group = cgroup.Group(cgroups.find_hierarchy() / group_name)
    killpath(group.path, "")  # all are as long: one that is too long is told now
    children = Children(group, user)

    def work(request: FileWork) -> FileReplies:
        # They come with the leases, which come with them.
        return workers.work(request, OURSELVES)

    shared = open_door(functools.partial(killpath, group.path))
    door = LeasesByName(LocalLeases(work), shared)
    holdings, sessions = Holdings(door), Sessions()
    workers = Workers(holdings, children, sessions)
    children.on_tick.append(workers.retire)
    threading.stack_size(_STACK_BYTES)
    verbs = server.Verbs(door, holdings, Runner(holdings, children), workers, sessions)
    listener = server.Server(run_folder / SOCKET, verbs.answer)
    listener.start()
    threads.start("watch", functools.partial(_watch, holdings, _heard(children)))
    log.info("storage process %d serves in %s", os.getpid(), run_folder)
    children.run()
    listener.close()
    signal.set_wakeup_fd(-1)
    children.close()
    log.info("storage process %d ends", os.getpid())
    group.close()


def killpath(group: Path, lockspace: str) -> Killpath:
    """Return what sanlock is to run when that lockspace is lost."""
    pid = os.getpid()
    words = (str(group), str(pid), kill.start_time(pid), cgroup.tag(lockspace))
    return Killpath(PYTHON, ("-I", "-S", kill.__file__, *words))


def _heard(children: Children) -> threading.Event:
    """Let signals stop the loop; return the event that kill.py's sets."""
    is_killed = threading.Event()
    signal.set_wakeup_fd(children.wake_descriptor, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: children.stop())
    signal.signal(signal.SIGUSR1, lambda _number, _frame: is_killed.set())
    return is_killed


def _watch(holdings: Holdings, is_killed: threading.Event) -> None:
    """Give up what was lost as soon as sanlock or its end says so."""
    while True:
        with threads.surviving():
            watch_once(holdings, is_killed, _WATCH_S)


def watch_once(
    holdings: Holdings, is_killed: threading.Event, timeout_s: float
) -> None:
    """Look once; what could not be found out is looked at again in the next round."""
    try:
        if is_killed.wait(timeout_s) or holdings.is_severed():
            is_killed.clear()
            log.warning("sanlock asks us to stop, or is gone")
            holdings.forget_lost()
    except (Error, OSError):
        is_killed.set()
        raise
    finally:
        holdings.give_up_lost(timeout_s)


def _parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="skerry-storage", description=__doc__)
    parser.add_argument("--run-folder", type=Path, default=RUN_FOLDER)
    parser.add_argument("--cgroup", default=cgroup.NAME, help="name of the cgroup")
    parser.add_argument(
        "--user",
        default=f"{STORAGE_ID}:{STORAGE_ID}",
        help="uid:gid of all that touches storage; empty: our own",
    )
    parser.add_argument("--log-level", default="INFO")
    return parser.parse_args(words)


def _user(text: str) -> User | None:
    if not text:
        return None
    uid, _, gid = text.partition(":")
    return User(int(uid), int(gid))


if __name__ == "__main__":
    main()
