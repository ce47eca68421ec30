"""Mounts without a kernel."""

from dataclasses import dataclass, field
from pathlib import Path

from node.system import mounts
from node.system.mounts import Mount, MountBusy, MountFailed, MountOther, Mounts

ROOT = Mount("/dev/vda1", "/", "ext4", ("rw",))


@dataclass(slots=True)
class FakeMounts:
    """`broken` sources cannot be mounted; `busy` targets cannot be unmounted."""

    table: list[Mount] = field(default_factory=lambda: [ROOT])
    broken: set[str] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)

    def mount(
        self, source: str, target: Path, file_system: str, options: tuple[str, ...]
    ) -> None:
        for each in self.table:
            if each.target == str(target) and not mounts.is_same(each.source, source):
                raise MountOther(f"{target} has {each.source}", source=each.source)
            if each.target == str(target):
                return
        if source in self.broken or file_system == "nonsense":
            raise MountFailed(f"{source}: it does not answer", source=source)
        self.table.append(Mount(source, str(target), file_system, options))

    def unmount(self, target: Path) -> None:
        if str(target) in self.busy:
            raise MountBusy(f"{target} is in use", target=str(target))
        self.table = [each for each in self.table if each.target != str(target)]

    def find(self, path: Path) -> Mount:
        return mounts.lying_on(tuple(self.table), path.resolve())


_typed: type[Mounts] = FakeMounts
