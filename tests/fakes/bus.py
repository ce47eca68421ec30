"""An announcer that nobody hears."""

from dataclasses import dataclass, field

from node.system.bus import Announcer, Service


@dataclass(slots=True)
class FakeAnnouncer:
    announced: list[Service] = field(default_factory=list)
    is_closed: bool = False

    def announce(self, service: Service) -> None:
        self.announced.append(service)

    def close(self) -> None:
        self.is_closed = True


_typed: type[Announcer] = FakeAnnouncer
