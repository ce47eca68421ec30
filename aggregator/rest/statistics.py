"""Show figures as oVirt's statistics: name, kind, unit, one value. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aggregator.federation.view import NodeView, View, VmView, stats_of
from aggregator.rest import element, fleet
from aggregator.rest.element import Element
from aggregator.rest.resource import Below, Context, Field, Resource
from node import clock


@dataclass(frozen=True, slots=True)
class Figure:
    """A statistic's nature: its name is what clients look for."""

    name: str
    unit: str
    meaning: str
    type: str = "integer"
    kind: str = "gauge"


@dataclass(frozen=True, slots=True)
class Statistic:
    statistic_id: str
    figure: Figure
    datum: float


MEMORY_INSTALLED: Final = Figure("memory.installed", "bytes", "Total memory configured")
MEMORY_USED: Final = Figure("memory.used", "bytes", "Memory used (agent)")
CPU_TOTAL: Final = Figure("cpu.current.total", "percent", "Total CPU used", "decimal")
ELAPSED: Final = Figure("elapsed.time", "seconds", "Elapsed VM run time")
DISK_READ: Final = Figure(
    "data.current.read", "bytes_per_second", "Read data rate", "decimal"
)
DISK_WRITE: Final = Figure(
    "data.current.write", "bytes_per_second", "Write data rate", "decimal"
)
RECEIVED: Final = Figure(
    "data.current.rx", "bytes_per_second", "Receive data rate", "decimal"
)
SENT: Final = Figure(
    "data.current.tx", "bytes_per_second", "Transmit data rate", "decimal"
)
HOST_TOTAL: Final = Figure("memory.total", "bytes", "Total memory")
HOST_USED: Final = Figure("memory.used", "bytes", "Used memory")
HOST_FREE: Final = Figure("memory.free", "bytes", "Free memory")
SWAP_USED: Final = Figure("swap.used", "bytes", "Used swap")
IDLE: Final = Figure("cpu.current.idle", "percent", "Idle CPU usage", "decimal")
LOAD: Final = Figure(
    "cpu.load.avg.5m", "percent", "CPU 5 minute load average", "decimal"
)
BOOT: Final = Figure("boot.time", "none", "Boot time of the machine")


def of_vm(view: View, vm: VmView) -> tuple[Statistic, ...]:
    """Return what is known of a VM: more while it runs."""
    figures: list[tuple[Figure, float]] = [(MEMORY_INSTALLED, vm.memory_bytes)]
    stats = stats_of(view, vm.vm_id)
    if stats is not None:
        figures += [
            (MEMORY_USED, stats.memory_used_bytes),
            (CPU_TOTAL, stats.cpu_percent),
            (ELAPSED, stats.uptime_s),
            (DISK_READ, stats.disk_read_bps),
            (DISK_WRITE, stats.disk_write_bps),
            (RECEIVED, stats.net_rx_bps),
            (SENT, stats.net_tx_bps),
        ]
    return _statistics(vm.vm_id, figures)


def of_node(node: NodeView) -> tuple[Statistic, ...]:
    """Return what is known of a node."""
    figures: list[tuple[Figure, float]] = []
    if node.facts is not None:
        booted_at = clock.parse_rfc3339(node.facts.booted_at)
        figures += [
            (HOST_TOTAL, node.facts.memory_bytes),
            (BOOT, int(booted_at.timestamp())),
        ]
    stats = node.stats
    if stats is not None:
        figures += [
            (HOST_USED, stats.memory_used_bytes),
            (HOST_FREE, stats.memory_free_bytes),
            (SWAP_USED, stats.swap_used_bytes),
            (CPU_TOTAL, stats.cpu_percent),
            (IDLE, max(0.0, 100.0 - stats.cpu_percent)),
            (LOAD, stats.load_5min),
            (RECEIVED, stats.net_rx_bps),
            (SENT, stats.net_tx_bps),
        ]
    return _statistics(node.node_id, figures)


def _statistics(
    object_id: str, figures: Iterable[tuple[Figure, float]]
) -> tuple[Statistic, ...]:
    return tuple(
        Statistic(fleet.derived_id(object_id, figure.name), figure, datum)
        for figure, datum in figures
    )


def _values(context: Context, statistic: Statistic) -> Element:
    datum = statistic.datum
    number = f"{datum:.2f}" if statistic.figure.type == "decimal" else str(int(datum))
    value = Element("value", children=(Element("datum", number),))
    return element.listed("values", (value,))


RESOURCE: Final[Resource[Statistic]] = Resource(
    "statistic",
    "statistics",
    lambda statistic: statistic.statistic_id,
    (
        Field("name", lambda context, row: row.figure.name),
        Field("description", lambda context, row: row.figure.meaning),
        Field("kind", lambda context, row: row.figure.kind),
        Field("type", lambda context, row: row.figure.type),
        Field("unit", lambda context, row: row.figure.unit),
        Field("values", _values),
    ),
)


OF_NODE: Final[Below[NodeView]] = Below(
    "statistics", RESOURCE, lambda context, node: of_node(node)
)
