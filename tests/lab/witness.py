"""Read what the mirrors saw: who changed which file where, and when.

Pure, but for what takes a lab. Times are nanoseconds of the machine's monotonic
clock, which all hosts share. The layout of a log is drawn in mirror.c.
"""

import itertools
import time
from collections import abc
from dataclasses import dataclass, replace
from pathlib import Path

from tests.lab import layout

_END_BYTES = 1 << 16  # hundreds of changes


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the shared storage by one host."""

    host: str
    verb: str  # write, truncate, fallocate, create, rename, unlink, …
    path: str  # below the mount point, beginning with a slash
    other: str  # where a rename or link leads to; else empty
    inode: int  # 0: it was not there before
    offset: int  # -1: none
    length: int
    pid: int  # as the host's mirror sees it
    begin_ns: int
    end_ns: int | None = None  # or when the host was dead; None: it is not known
    result: int | None = None  # bytes or 0; negative: an errno; None: it is not known

    @property
    def is_done(self) -> bool:
        """Tell whether it may have happened: it did, or its end is not known."""
        return self.result is None or self.result >= 0


@dataclass(frozen=True, slots=True)
class Turn:
    """A time in which one host alone changed a file."""

    host: str
    begin_ns: int  # of its first change
    end_ns: int | None  # of its last; None: it is not known
    changes: int


def parse(text: str, host: str) -> list[Change]:
    """Return the changes of one host in the order in which they began.

    A last line that is not whole is being written: it is left for the next reading.
    """
    done: list[Change] = []
    open_changes: dict[int, int] = {}  # number → index in `done`
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        kind, *words = line[:-1].split(" ", 8)
        if kind == "B":  # a new mirror begins its numbers anew
            open_changes[int(words[0])] = len(done)
            done.append(_begun(words, host))
        elif kind == "D":
            for each in open_changes.values():
                done[each] = replace(done[each], end_ns=int(words[0]))
            open_changes.clear()
        elif kind == "E":
            number, end_ns, result = map(int, words)
            index = open_changes.pop(number, None)
            if index is not None:  # else the log was emptied in between
                done[index] = replace(done[index], end_ns=end_ns, result=result)
    return sorted(done, key=lambda change: change.begin_ns)


def read(lab: layout.Layout, host: str = "") -> list[Change]:
    """Return what the mirrors of one host saw; "": of all, in order of time."""
    names = [host] if host else [path.stem for path in _logs(lab)]
    found = [parse(_text(lab.witness_log(name)), name) for name in names]
    return sorted(itertools.chain(*found), key=lambda change: change.begin_ns)


def is_written(lab: layout.Layout, name: str) -> bool:
    """Tell whether data were written to a volume lately, by the ends of the logs.

    `name` is a part of its path. Reading a long log whole takes seconds.
    """
    for path in _logs(lab):
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _END_BYTES))
            text = log.read().decode(errors="surrogateescape")
        for line in text.splitlines():
            kind, *words = line.split(" ", 8)
            is_write = kind == "B" and len(words) == 8 and words[3] == "write"
            if is_write and name in words[7] and "." not in words[7]:
                return True
    return False


def note_death(lab: layout.Layout, host: str) -> None:
    """Log that no process of a host is left: what it was at has ended by now."""
    path = lab.witness_log(host)
    if path.exists():
        with path.open("a") as log:
            log.write(f"D {time.monotonic_ns()}\n")


def turns(changes: abc.Iterable[Change]) -> list[Turn]:
    """Return whose turn it was, one after the other; give it one file's changes.

    A file with one writer at a time has one turn for each owner it had.
    """
    done = [change for change in changes if change.is_done]
    found = []
    for host, group in itertools.groupby(done, lambda change: change.host):
        mine = list(group)
        ends = [change.end_ns for change in mine]
        known = [end for end in ends if end is not None]
        last = max(known) if len(known) == len(ends) else None
        found.append(Turn(host, mine[0].begin_ns, last, len(mine)))
    return found


def overlaps(changes: abc.Iterable[Change]) -> list[tuple[Turn, Turn]]:
    """Return neighbours in time of which the second began before the first ended."""
    return [
        (first, second)
        for first, second in itertools.pairwise(turns(changes))
        if first.end_ns is None or second.begin_ns < first.end_ns
    ]


def _begun(words: abc.Sequence[str], host: str) -> Change:
    path, _, other = words[7].partition("\t")
    return Change(
        host=host,
        verb=words[3],
        path=path,
        other=other,
        inode=int(words[4]),
        offset=int(words[5]),
        length=int(words[6]),
        pid=int(words[2]),
        begin_ns=int(words[1]),
    )


def _logs(lab: layout.Layout) -> list[Path]:
    return sorted(lab.witness.glob("*.log"))


def _text(path: Path) -> str:
    return path.read_text(errors="surrogateescape") if path.exists() else ""
