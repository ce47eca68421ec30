"""Hooks that are asked and told, and do what the test says."""

from collections.abc import Callable, Mapping, Sequence

from node.contract.hooks import Describe, Edited, Hooks, Properties
from node.model.hooks import HookPoint
from node.model.vm import Vm
from node.system.confined import Bounds, Ended


class FakeHooks:
    def __init__(self) -> None:
        self.told: list[HookPoint] = []  # every point that was reached, in order
        self.seen: dict[HookPoint, str] = {}  # the last XML
        # May change XML, or raise.
        self.on_edit: Callable[[HookPoint, str], str] = lambda point, xml: xml
        self.on_ask: Callable[[HookPoint], None] = lambda point: None

    def edit(
        self, point: HookPoint, vm: Vm, text: str, more: Properties = ()
    ) -> Edited:
        self._note(point, text)
        edited = self.on_edit(point, text)
        return Edited(edited, (("50_fake", edited),) if edited != text else ())

    def ask(
        self, point: HookPoint, vm: Vm, describe: Describe, more: Properties = ()
    ) -> None:
        self._note(point, describe())
        self.on_ask(point)

    def tell(
        self, point: HookPoint, vm: Vm, describe: Describe, more: Properties = ()
    ) -> None:
        self._note(point, describe())

    def _note(self, point: HookPoint, xml: str) -> None:
        self.told.append(point)
        self.seen[point] = xml


class NoScripts:
    """Where no script may run: there are none."""

    def run(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        bounds: Bounds,
        folder: str = "/",
    ) -> Ended:
        raise AssertionError(f"{argv} is no script of the test's")

    def clear(self) -> None:
        """Have nothing left."""


_typed: type[Hooks] = FakeHooks
