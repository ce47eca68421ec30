"""Choose nodes on what the fleet is now, orders under way included."""

from collections.abc import Iterable
from typing import Final

from aggregator import db
from aggregator.control import promises
from aggregator.control.order import Entry
from aggregator.federation.view import NodeView, View
from aggregator.fleet.properties import Properties
from aggregator.policies import properties as policy
from aggregator.scheduling import place
from aggregator.scheduling.filters import Contender, Promise, Rules
from aggregator.scheduling.place import Placement
from node import clock as clocks
from node import translate
from node.clock import Clock
from node.errors import Conflict
from node.model.vm import VmSpec

_REASONS_SHOWN: Final = 5  # a message is read by people


class NameTaken(Conflict):
    code = "vm_name_taken"
    remedy = "Choose another name."


class NoNodeFits(Conflict):
    code = "vm_not_placed"
    remedy = "Add capacity, or ask for less; the message says what each node lacks."


# Whether a VM may be placed on a node without KVM; no record: it may.
ALLOWS_EMULATION: Final = "allows_emulation"


def allows_emulation(settings: db.Records) -> bool:
    """Tell what the fleet's administrator said of nodes without KVM."""
    setting = settings.get(ALLOWS_EMULATION)
    return setting is None or bool(setting.body)


class Placing:
    def __init__(self, database: db.Database, clock: Clock) -> None:
        self._settings = database.records("setting")
        self._properties = Properties(database)
        self._clock = clock

    def place(
        self,
        spec: VmSpec,
        nodes: Iterable[NodeView],
        under_way: Iterable[Entry],
        view: View,
        *,
        is_new: bool = True,
    ) -> Placement:
        """Judge these nodes; the fleet's settings and declarations count.

        Not new: the VM is there, and its name is its own.
        """
        entries = tuple(under_way)
        promised = promises.promised(entries, view)
        rules = Rules(
            now=clocks.rfc3339(self._clock.now()),
            is_name_free=not is_new or promises.is_name_free(spec.name, entries, view),
            allows_emulation=allows_emulation(self._settings),
            needed_hooks=policy.needed_hooks(self._properties.now(), spec),
        )
        contenders = (
            Contender(node, promised.get(node.node_id, Promise())) for node in nodes
        )
        return place.place(spec, contenders, rules)


def refusal(spec: VmSpec, placement: Placement) -> Conflict:
    """Return the error that says why no node was found."""
    reasons = [reason for each in placement.verdicts for reason in each.reasons]
    if any(reason.code == "vm_name_taken" for reason in reasons):
        return NameTaken(f"there is already a VM named {spec.name}", name=spec.name)
    texts = dict.fromkeys(translate.text(each.code, each.fields) for each in reasons)
    shown = list(texts)[:_REASONS_SHOWN]
    if len(texts) > len(shown):
        shown.append(f"({len(texts) - len(shown)} more reasons)")
    detail = " ".join(shown) or "There is no node yet."
    return NoNodeFits(f"no node can take VM {spec.name}: {detail}", name=spec.name)
