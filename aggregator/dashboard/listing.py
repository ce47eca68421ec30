"""Cut one page out of all VMs, nodes, disks, templates, in the order of their names.

Pure. A page without a question is a slice and costs the same with 50,000 VMs;
a question looks at every VM once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from aggregator.dashboard import queries, storage_queries
from aggregator.dashboard.queries import Query
from aggregator.federation.view import (
    DiskRow,
    NodeView,
    StorageDomainRow,
    TemplateRow,
    View,
    VmView,
)
from node.model.storage import DomainType

T = TypeVar("T")
PAGE_ROWS = 100  # what oVirt shows, and what a browser lays out at once


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: tuple[T, ...]
    number: int  # from 1
    pages: int
    total: int  # items on all pages
    first: int  # number of the first item shown; 0 if there is none

    @property
    def last(self) -> int:
        return self.first + len(self.items) - 1 if self.items else 0


def vm_page(view: View, query: Query, number: int) -> Page[VmView]:
    """Return a page of the VMs that are meant, by name."""
    if not query.terms:
        page = cut(view.vm_order, number)
        vms = tuple(view.vms[vm_id] for _, vm_id in page.items)
        return Page(vms, page.number, page.pages, page.total, page.first)
    return cut(queries.find_vms(view, query), number)


def node_page(view: View, query: Query, number: int) -> Page[NodeView]:
    """Return a page of the nodes that are meant, by name."""
    found = queries.find_nodes(view, query)
    found.sort(key=lambda node: (node.name.casefold(), node.node_id))
    return cut(found, number)


def vms_of_node(view: View, node: NodeView, number: int) -> Page[VmView]:
    """Return a page of the VMs of one node, by name."""
    vms = [view.vms[vm_id] for vm_id in node.vm_ids if vm_id in view.vms]
    vms.sort(key=lambda vm: (vm.name.casefold(), vm.vm_id))
    return cut(vms, number)


def disk_page(view: View, query: Query, number: int) -> Page[DiskRow]:
    """Return a page of the disks that are meant, by name."""
    if not query.terms:
        page = cut(view.disk_order, number)
        disks = tuple(view.disks[disk_id] for _, disk_id in page.items)
        return Page(disks, page.number, page.pages, page.total, page.first)
    return cut(storage_queries.find_disks(view, query), number)


def domain_page(view: View, query: Query, number: int) -> Page[StorageDomainRow]:
    """Return a page of the storage domains that are meant, by name."""
    return cut(storage_queries.find_domains(view, query), number)


def template_page(view: View, query: Query, number: int) -> Page[TemplateRow]:
    """Return a page of the templates that are meant, by name and version."""
    return cut(storage_queries.find_templates(view, query), number)


def local_page(view: View, number: int) -> Page[StorageDomainRow]:
    """Return a page of the storage that nodes have for themselves, by name."""
    named = (view.storage_domains[each] for _, each in view.storage_domain_order)
    return cut([each for each in named if each.kind is DomainType.LOCALFS], number)


def cut(items: Sequence[T], number: int) -> Page[T]:
    """Return one page of a list; the nearest if there is none of that number."""
    pages = max(1, -(-len(items) // PAGE_ROWS))
    number = min(max(1, number), pages)
    start = (number - 1) * PAGE_ROWS
    shown = tuple(items[start : start + PAGE_ROWS])
    return Page(shown, number, pages, len(items), start + 1 if shown else 0)
