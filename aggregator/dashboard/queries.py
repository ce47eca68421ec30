"""Find things by what a person types: words, and oVirt's field = value.

Pure. Words must all occur in the name, address, description, node or id;
`status=up`, `node=oak*`, `name!="web 1"` and `alert=yes` narrow a field; the
word `and` may stand between; `Vms:`, `Nodes:`, `Disks:` or `Storage:` in front
chooses the kind (`Templates:` too). What lies on storage is found by `storage_queries`.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from aggregator.dashboard import alarms
from aggregator.federation import view as views
from aggregator.federation.view import NodeView, View, VmView
from node.errors import Invalid
from node.model.ids import DiskId, NodeId, StorageDomainId
from node.model.vm import VmState

# Gets the folded name, which the View's order has already, beside the VM.
VmTest = Callable[[str, VmView], bool]
NodeTest = Callable[[NodeView], bool]

LENGTH_MAX = 500  # longer is no question that a person typed


class BadQuery(Invalid):
    code = "bad_query"
    remedy = "Search for words, or name, status, node, storage, vm, id or alert."


class Wanted(StrEnum):
    ALL = "all"
    VMS = "vms"
    NODES = "nodes"
    DISKS = "disks"
    STORAGE = "storage"
    TEMPLATES = "templates"


@dataclass(frozen=True, slots=True)
class Term:
    pattern: str  # folded as names are; may hold * and ?
    field: str = ""  # empty: any of the fields
    is_negated: bool = False

    @property
    def is_word(self) -> bool:
        """Say whether it is looked for just as it is, anywhere."""
        return not self.field and not _WILDCARDS.search(self.pattern)


@dataclass(frozen=True, slots=True)
class Query:
    wanted: Wanted = Wanted.ALL
    terms: tuple[Term, ...] = ()


_KINDS: Mapping[str, Wanted] = {
    "vm": Wanted.VMS,
    "vms": Wanted.VMS,
    "node": Wanted.NODES,
    "nodes": Wanted.NODES,
    "host": Wanted.NODES,
    "hosts": Wanted.NODES,
    "disk": Wanted.DISKS,
    "disks": Wanted.DISKS,
    "storage": Wanted.STORAGE,
    "template": Wanted.TEMPLATES,
    "templates": Wanted.TEMPLATES,
}
_FIELDS: Mapping[str, str] = {
    "name": "name",
    "status": "status",
    "state": "status",
    "node": "node",
    "host": "node",
    "address": "address",
    "ip": "address",
    "description": "description",
    "storage": "storage",
    "vm": "vm",
    "id": "id",
    "alert": "alert",
}
_WILDCARDS = re.compile(r"[*?]")
_SEPARATOR = "\0"  # between the texts of a VM: nobody types it
_KIND = re.compile(r"\s*(\w+):\s*")
_TOKEN = re.compile(r'(?:(\w+)\s*(!?=)\s*)?("[^"]*"|[^\s"]+)')


def parse(text: str) -> Query:
    """Return the question in a text; BadQuery if a field of it is unknown."""
    if len(text) > LENGTH_MAX:
        raise BadQuery(f"a search has {LENGTH_MAX} letters at most")
    wanted = Wanted.ALL
    kind = _KIND.match(text)
    if kind and kind[1].casefold() in _KINDS:
        wanted = _KINDS[kind[1].casefold()]
        text = text[kind.end() :]
    return Query(wanted, tuple(_terms(text)))


def _terms(text: str) -> Iterable[Term]:
    for field, operator, value in _TOKEN.findall(text):
        pattern = views.fold(value.strip('"'))
        if not field and pattern == "and":
            continue
        if field and field.casefold() not in _FIELDS:
            raise BadQuery(f"nothing has a field {field}", field=field)
        if pattern or field:
            yield Term(
                pattern, _FIELDS.get(field.casefold(), ""), is_negated=operator == "!="
            )


def find_vms(view: View, query: Query) -> list[VmView]:
    """Return the VMs that are meant, by name."""
    found = _with_words(view, [term.pattern for term in query.terms if term.is_word])
    for term in query.terms:
        if not term.is_word:
            fits = _vm_test(view, term)
            found = [each for each in found if fits(*each) is not term.is_negated]
    return [vm for _, vm in found]


def find_nodes(view: View, query: Query) -> list[NodeView]:
    """Return the nodes that are meant, in any order."""
    found = list(view.nodes.values())
    for term in query.terms:
        fits = _node_test(term)
        found = [node for node in found if fits(node) is not term.is_negated]
    return found


def matcher(term: Term) -> Callable[[str], bool]:
    """Return a test of a folded text: the whole of a named field, else a part."""
    word = term.pattern
    if term.is_word:
        return lambda text: word in text
    pattern = (word if term.field else f"*{word}*").replace("[", "[[]")
    match = re.compile(fnmatch.translate(pattern)).match
    return lambda text: match(text) is not None


def _with_words(view: View, words: Iterable[str]) -> list[tuple[str, VmView]]:
    """Return the VMs that have all words, each with its folded name.

    One loop, and no text is folded twice: it looks at every VM of a large fleet.
    """
    wanted = [(word, _nodes_that_fit(view, matcher(Term(word)))) for word in words]
    vms = view.vms
    found = []
    for name, vm_id in view.vm_order:
        vm = vms[vm_id]
        others = ""
        for word, nodes in wanted:
            if word in name or vm.node_id in nodes:
                continue
            others = others or _other_texts(vm)
            if word not in others:
                break
        else:
            found.append((name, vm))
    return found


def _other_texts(vm: VmView) -> str:
    """Return what else than its name a VM is found by, folded."""
    text = _SEPARATOR.join((vm.vm_id, vm.description, *vm.addresses))
    # plain letters fold alike, and faster
    return text.lower() if text.isascii() else views.fold(text)


def _vm_test(view: View, term: Term) -> VmTest:
    """Return a test of one term; what many VMs share is looked at once."""
    fits = matcher(term)
    match term.field:
        case "name" | "vm":
            return lambda name, vm: fits(name)
        case "status":
            states = {state for state in VmState if fits_state(fits, state)}
            return lambda name, vm: vm.state in states
        case "node":
            named = _nodes_that_fit(view, fits)
            return lambda name, vm: vm.node_id in named or fits(views.fold(vm.node_id))
        case "address":
            return lambda name, vm: any(fits(views.fold(ip)) for ip in vm.addresses)
        case "description":
            return lambda name, vm: fits(views.fold(vm.description))
        case "storage":
            places = domains_that_fit(view, fits)
            return lambda name, vm: any(map(_lies_on(view, places), vm.disk_ids))
        case "id":
            return lambda name, vm: fits(views.fold(vm.vm_id))
        case "alert":
            return lambda name, vm: fits(yes_or_no(alarms.is_vm_alarming(vm)))
    nodes = _nodes_that_fit(view, fits)
    # seldom there, and quick to look for: before every text is matched
    fixed_part = max(_WILDCARDS.split(term.pattern), key=len)
    return lambda name, vm: (
        fits(name)
        or vm.node_id in nodes
        or (
            fixed_part in (others := _other_texts(vm))
            and any(map(fits, others.split(_SEPARATOR)))
        )
    )


def _nodes_that_fit(view: View, fits: Callable[[str], bool]) -> set[NodeId]:
    return {node.node_id for node in view.nodes.values() if fits(views.fold(node.name))}


def domains_that_fit(view: View, fits: Callable[[str], bool]) -> set[StorageDomainId]:
    """Return the storage domains whose name fits."""
    return {each for name, each in view.storage_domain_order if fits(name)}


def _lies_on(view: View, places: set[StorageDomainId]) -> Callable[[DiskId], bool]:
    """Return a test of where a disk lies."""

    def lies(disk_id: DiskId) -> bool:
        disk = view.disks.get(disk_id)
        return disk is not None and not places.isdisjoint(disk.storage_domain_ids)

    return lies


def _node_test(term: Term) -> NodeTest:
    fits = matcher(term)
    match term.field:
        case "name" | "node":
            return lambda node: fits(views.fold(node.name))
        case "status":
            return lambda node: fits_state(fits, node.state)
        case "address":
            return lambda node: fits(views.fold(node.address))
        case "description" | "storage" | "vm":  # nodes have none
            return lambda node: fits("")
        case "id":
            return lambda node: fits(views.fold(node.node_id))
        case "alert":
            return lambda node: fits(yes_or_no(alarms.is_node_alarming(node)))
    return lambda node: any(
        fits(views.fold(text)) for text in (node.name, node.address, node.node_id)
    )


def fits_state(fits: Callable[[str], bool], state: StrEnum) -> bool:
    """Say whether a state fits as it is written, or with spaces."""
    return fits(state.value) or fits(state.value.replace("_", " "))


def yes_or_no(is_so: bool) -> str:
    """Return what `alert=` is compared with."""
    return "yes" if is_so else "no"
