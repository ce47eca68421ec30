"""Measure uploads and downloads beside qemu-img.

`python -m tests.scale.transfer_bench`

The same 2 GiB image, half of it data, is converted by qemu-img and moved by oVirt's
own client: through nginx and TLS, and by the unix socket that the client turns to on
the same host. The ways take turns, so that the load of the machine meets them alike;
the ratio is of the fastest of each. All of them write past the page cache and flush.
Memory is that of the transfer server and of nginx, also while 20 GiB are uploaded, of
which a sixteenth is data.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from ovirt_imageio import client

from node.units import GiB, MiB
from tests.contract import transfers
from tests.contract.transfers import Place
from tests.scale import figures, processes
from tests.scale.figures import Figure, Section

SIZE_BYTES: Final = 2 * GiB
LARGE_BYTES: Final = 20 * GiB
_PIECE_BYTES: Final = 64 * MiB
_PROMISED: Final = 0.8  # of qemu-img's speed
_MEMORY_MAX_MIB: Final = 50.0
_ROUNDS: Final = 3
_TICKET: Final = "bench"

Way = Callable[[], None]


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="skerry-transfers-") as folder:
        section = measure(Path(folder, "transfers"))
    print(figures.render([section]))
    return 0


def measure(folder: Path) -> Section:
    """Return the figures of both directions; the folder is made."""
    folder.mkdir(mode=0o755)
    source = folder / "source.img"
    _write_source(source, SIZE_BYTES, 2 * _PIECE_BYTES)
    with transfers.running(folder) as place:
        found: list[Figure] = []
        before_mib = _highest_mib(place)
        for name, ways in {
            "upload": _uploads(place, source),
            "download": _downloads(place, source),
        }.items():
            found += _compare(name, ways)
        source.unlink()
        found.append(_upload_large(place))
        grown = _highest_mib(place) - before_mib
    found.append(Figure("memory has grown by", grown, "MiB", _MEMORY_MAX_MIB))
    return Section("transfers: 2 GiB, half of it data", tuple(found))


def _write_source(path: Path, size_bytes: int, step_bytes: int) -> None:
    """Write data at the begin of each step, and leave holes between."""
    with path.open("wb") as file:
        for start in range(0, size_bytes, step_bytes):
            file.seek(start)
            file.write(os.urandom(_PIECE_BYTES))
        file.truncate(size_bytes)
        os.fsync(file.fileno())


def _upload_large(place: Place) -> Figure:
    source, target = place.folder / "large.img", place.folder / "large.qcow2"
    _write_source(source, LARGE_BYTES, 16 * _PIECE_BYTES)
    transfers.qemu_img("create", "-q", "-f", "qcow2", target, LARGE_BYTES)
    begin = time.monotonic()
    with _moving(place, target, "qcow2", LARGE_BYTES) as url, _locality(False):
        client.upload(str(source), url, None, secure=False, disk_is_zero=True)
    seconds = time.monotonic() - begin
    source.unlink()
    target.unlink()
    return Figure("upload of 20 GiB, through nginx", seconds, "s")


def _compare(name: str, ways: dict[str, Way]) -> list[Figure]:
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(_ROUNDS):
        for way, run in ways.items():
            begin = time.monotonic()
            run()
            times[way].append(time.monotonic() - begin)
    alone = min(times["qemu-img"])
    found = []
    for way, seconds in times.items():
        note = f"median {statistics.median(seconds):.2f} s"
        found.append(Figure(f"{name}, {way}", min(seconds), "s", None, note))
        if way != "qemu-img":
            found.append(_ratio(f"{name}, {way}, ratio", alone / min(seconds)))
    return found


def _ratio(name: str, ratio: float) -> Figure:
    return Figure(name, ratio, "×", note="of qemu-img's speed", floor=_PROMISED)


def _uploads(place: Place, source: Path) -> dict[str, Way]:
    target = place.folder / "target.qcow2"

    def convert() -> None:
        target.unlink(missing_ok=True)
        _convert(source, "raw", target)

    def send(is_local: bool) -> None:
        target.unlink(missing_ok=True)
        transfers.qemu_img("create", "-q", "-f", "qcow2", target, SIZE_BYTES)
        with _moving(place, target, "qcow2", SIZE_BYTES) as url, _locality(is_local):
            client.upload(str(source), url, None, secure=False, disk_is_zero=True)

    return {
        "qemu-img": convert,
        "through nginx": lambda: send(False),
        "unix socket": lambda: send(True),
    }


def _downloads(place: Place, source: Path) -> dict[str, Way]:
    target = place.folder / "copy.qcow2"

    def convert() -> None:
        target.unlink(missing_ok=True)
        _convert(source, "raw", target)

    def fetch(is_local: bool) -> None:
        target.unlink(missing_ok=True)
        moving = _moving(place, source, "raw", SIZE_BYTES, "--read-only")
        with moving as url, _locality(is_local):
            client.download(url, str(target), None, secure=False)

    return {
        "qemu-img": convert,
        "through nginx": lambda: fetch(False),
        "unix socket": lambda: fetch(True),
    }


def _convert(source: Path, disk_format: str, target: Path) -> None:
    words = ["-f", disk_format, "-O", "qcow2", "-W", "-t", "none", "-T", "none"]
    subprocess.run(["qemu-img", "convert", *words, source, target], check=True)


@contextlib.contextmanager
def _moving(
    place: Place, image: Path, disk_format: str, size_bytes: int, *more: str
) -> Iterator[str]:
    with transfers.exporting(image, disk_format, "--cache=none", *more):
        url = place.install(_TICKET, size_bytes)
        yield url
        place.tickets.remove(_TICKET)


@contextlib.contextmanager
def _locality(is_local: bool) -> Iterator[None]:
    """Let oVirt's client turn to the unix socket, or keep it from doing so."""
    kind: Any = client._api.http.Backend
    turn = kind._optimize_connection
    if not is_local:
        kind._optimize_connection = lambda _self, _socket: None
    try:
        yield
    finally:
        kind._optimize_connection = turn


def _highest_mib(place: Place) -> float:
    """Return the most memory that the server, nginx and its workers have had."""
    master = place.nginx.pid
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    pids = [place.server.pid, master, *map(int, workers)]
    return sum(processes.usage(pid).highest_rss_bytes for pid in pids) / MiB


if __name__ == "__main__":
    sys.exit(main())
