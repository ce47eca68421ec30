"""Measure everything in one run: `make bench`; docs/benchmarks.md explains it.

Prints a table and writes build/bench.json. A number that is not kept is said,
and is no failure: times depend on the machine.
"""

import argparse
import functools
import json
import logging
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from node.clock import SystemClock, rfc3339
from node.errors import Error
from node.units import GiB
from tests.lab import members
from tests.scale import (
    aggregator_bench,
    figures,
    node_bench,
    samples,
    storage_bench,
    tls_bench,
    transfer_bench,
)
from tests.scale.aggregator_bench import Effort, Size
from tests.scale.figures import Section

log = logging.getLogger(__name__)

SIZES: Final = {
    100: Size(100, 1_000),
    500: Size(500, 10_000),
    2500: Size(2_500, 50_000),
}
Part = tuple[str, Callable[[], Section]]
PARTS: Final = ("aggregator", "tls", "node", "storage", "transfers")
RESULT: Final = members.CHECKOUT / "build" / "bench.json"


def main() -> int:
    """Measure what the arguments name."""
    arguments = _arguments()
    logging.basicConfig(
        level="INFO", format="%(asctime)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # so that what runs is ended, and what was made is removed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's workers reach the sockets below
        sections, failures = _measure(_parts(arguments, folder))
    print(_header(time.monotonic() - begin))
    print(figures.render(sections))
    missed = figures.missed(sections)
    print(f"\n{len(missed)} numbers do not keep what was promised.")
    if failures:
        print(f"{failures} parts could not be measured: see above.")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(_result(sections), indent=1) + "\n")
    return 1 if failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.scale.bench", description=__doc__
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="parts to do")
    parser.add_argument(
        "--sizes",
        default=",".join(map(str, SIZES)),
        help="numbers of nodes, of 100, 500, 2500",
    )
    parser.add_argument("--quick", action="store_true", help="few samples, rough")
    arguments = parser.parse_args()
    arguments.only = arguments.only or list(PARTS)
    try:
        arguments.sizes = [SIZES[int(text)] for text in arguments.sizes.split(",")]
    except (KeyError, ValueError):
        parser.error(f"--sizes: one or more of {', '.join(map(str, SIZES))}")
    return arguments


def _parts(arguments: argparse.Namespace, folder: Path) -> Iterator[Part]:
    """Yield what there is to do: each makes one section."""
    effort = Effort(15.0, 50, 50, 5) if arguments.quick else Effort()
    if "aggregator" in arguments.only:
        for size in arguments.sizes:
            yield (
                f"an aggregator with {size.nodes} nodes and {size.vms} VMs",
                functools.partial(
                    aggregator_bench.measure, size, folder / f"a{size.nodes}", effort
                ),
            )
    if "tls" in arguments.only:
        yield (
            "the cost of TLS",
            functools.partial(tls_bench.measure, folder / "tls", effort),
        )
    if "node" in arguments.only:
        yield (
            f"an agent with {node_bench.VMS} VMs",
            functools.partial(node_bench.measure, folder / "node", effort),
        )
        yield (
            "starts of a VM, in the lab",
            functools.partial(node_bench.measure_start, effort.starts),
        )
    if "storage" in arguments.only:
        yield "operations on disks", storage_bench.measure
    if "transfers" in arguments.only:
        yield (
            "transfers of disks",
            functools.partial(transfer_bench.measure, folder / "transfers"),
        )


def _measure(parts: Iterable[Part]) -> tuple[list[Section], int]:
    """Return the sections, and how many could not be measured."""
    sections, failures = [], 0
    for name, measure in parts:
        log.info("%s", name)
        try:
            sections.append(measure())
        except Error as error:
            log.error("%s: %s\n%s", name, error, error.remedy)
            failures += 1
    return sections, failures


def _header(elapsed_s: float) -> str:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GiB
    return (
        f"Skerry's bench: {os.cpu_count()} cores, {memory:.0f} GiB, "
        f"Python {platform.python_version()}, Linux {platform.release()}; "
        f"{elapsed_s:.0f} s; samples: {samples.read().origin}\n"
    )


def _result(sections: list[Section]) -> dict[str, object]:
    return {
        "at": rfc3339(SystemClock().now()),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "samples": samples.read().origin,
        "sections": figures.to_json(sections),
    }


if __name__ == "__main__":
    sys.exit(main())
