"""A machine's figures, as the test sets them."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node.system.procfs import CpuTimes, FileSystem, Memory, Procfs, Traffic
from node.units import GiB

CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: A Fine Processor
cpu MHz\t\t: 2000.400
physical id\t: 0
siblings\t: 2
cpu cores\t: 1
flags\t\t: vmx sse2

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: A Fine Processor
cpu MHz\t\t: 1999.100
physical id\t: 0
siblings\t: 2
cpu cores\t: 1
flags\t\t: vmx sse2
"""


_CPU_TIMES = CpuTimes(10.0, 100.0)
_MEMORY = Memory(8 * GiB, 6 * GiB, 0)
_STORAGE = FileSystem(100 * GiB, 60 * GiB)


@dataclass(slots=True)
class FakeProcfs:
    cpu: CpuTimes = _CPU_TIMES
    load: float = 0.5
    ram: Memory = _MEMORY
    counters: dict[str, Traffic] = field(default_factory=dict)
    storage: FileSystem = _STORAGE
    booted_s: float = 1_795_000_000.0
    release: str = "6.1.0-test"
    texts: dict[str, str] = field(default_factory=lambda: {"/proc/cpuinfo": CPUINFO})
    existing: list[str] = field(default_factory=list)  # beside those with a text

    def cpu_times(self) -> CpuTimes:
        return self.cpu

    def load_5min(self) -> float:
        return self.load

    def memory(self) -> Memory:
        return self.ram

    def traffic(self) -> Mapping[str, Traffic]:
        return dict(self.counters)

    def file_system(self, path: Path) -> FileSystem:
        return self.storage

    def booted_at_s(self) -> float:
        return self.booted_s

    def kernel(self) -> str:
        return self.release

    def host_name(self) -> str:
        return "h1"

    def text(self, path: str) -> str:
        return self.texts.get(path, "").strip()

    def paths(self, folder: str, pattern: str) -> tuple[str, ...]:
        return tuple(
            sorted(
                path
                for path in {*self.texts, *self.existing}
                if Path(path).parent == Path(folder)
                and fnmatch.fnmatchcase(Path(path).name, pattern)
            )
        )


_typed: Procfs = FakeProcfs()
