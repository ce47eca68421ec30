"""Orders, nodes and scripts of an aggregator: what these are run with is kept."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aggregator.control import actions, order
from aggregator.control.dispatch import Gate
from aggregator.hooks import center, endings
from aggregator.hooks.center import CenterHooks
from aggregator.hooks.deeds import Deed, Ending
from aggregator.hooks.points import POINTS
from node.hooks import runner
from node.hooks.runner import Runner
from node.model.ids import JobId, NodeId
from tests.fakes import fleet
from tests.lab import polling
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, Parts

WAIT_S = 20.0  # a script takes milliseconds; the machine may be busy
GROUP = f"skerry-test-center-{os.getpid()}"
ORDER = JobId("00000000-0000-4000-8000-00000000000f")
WEB = fleet.vm_id(1)


class Scene(Parts):
    """Parts whose orders are asked about; scripts are run as whoever the test is."""

    def __init__(self, folder: Path, **timeouts_s: float) -> None:
        self.folder = folder
        self.root = folder / "center-hooks"
        self.log = folder / "log"
        self.log.touch()
        self.timeouts_s = timeouts_s
        self.members: set[NodeId] = {ONE}
        super().__init__(folder)

    def gate(self) -> Gate:
        self.hooks = CenterHooks(
            Runner(
                *(POINTS, lambda: [self.root], self.folder / "run"),
                *(runner.confine(GROUP, None), None, self.timeouts_s),
            ),
            self.database.records(center.COLLECTION),
            self.events,
            self._how_ended,
            self.clock,
        )
        return self.hooks.ask

    def _how_ended(self, deed: Deed) -> Ending | None:
        return endings.of(deed, self.orders.book, self.viewer.view, self.is_member)

    def is_member(self, node_id: NodeId) -> bool:
        return node_id in self.members

    def add(self, point: str, name: str, text: str = "") -> Path:
        """Put a script there that keeps its payload, and then does what it says."""
        path = self.root / point / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # a line of the log is one script's: its payload has none
        keep = f'(echo "{name} $(tr -d "\\n" <"$_hook_json")") >>{self.log}'
        path.write_text(f"#!/bin/sh\n{keep}\n{text}\n")
        path.chmod(0o755)
        return path

    @property
    def heard(self) -> list[str]:
        """Return `point/script` of each that was run, in order."""
        return [f"{body['point']}/{name}" for name, body in self._lines()]

    @property
    def payloads(self) -> list[dict[str, Any]]:
        return [body for _, body in self._lines()]

    def _lines(self) -> Sequence[tuple[str, dict[str, Any]]]:
        pairs = (line.split(" ", 1) for line in self.log.read_text().splitlines())
        return [(name, json.loads(text)) for name, text in pairs]

    def codes(self) -> list[str]:
        return [event.code for event in reversed(self.events.list())]

    def begin(self) -> None:
        """Order the start of a VM, and wait for nothing."""
        action = actions.StartVm(ORDER, ONE, WEB, ORIGIN.correlation_id)
        self.orders.book.put(order.record(action, "web", ORIGIN, fleet.AT))
        self.orders.dispatch.send(ORDER)

    def tell(self, is_enough: Callable[[], bool]) -> None:
        """Have scripts told of what has ended, until it is enough."""

        def look() -> bool:
            self.hooks.cycle()
            return is_enough()

        assert polling.until(look, WAIT_S), self.codes()

    def is_asked(self) -> bool:
        """Say whether no script is being asked any more."""
        return not self.hooks._asking

    def is_told(self) -> bool:
        """Say whether nothing is kept any more."""
        return not self.database.records(center.COLLECTION).list()

    def close(self) -> None:
        self.hooks.stop()
        self.database.close()
