"""Serve what the VMs of the fleet are; `vm_orders` serves what is asked of them."""

import flask

from aggregator.api import new_vm, verbs
from aggregator.api.model import (
    NewVm,
    PlacementLines,
    VerdictLine,
    VmDetail,
    VmLine,
    VmLines,
)
from aggregator.federation import view as views
from aggregator.federation.view import View, VmView, stats_of
from aggregator.services import Services
from node import wire
from node.errors import NotFound
from node.http import face
from node.model.ids import VmId
from node.model.vm import Vm, VmEntry, VmRun

LINES_MAX = 1000
TAIL_BYTES = 65536


class NoSuchVm(NotFound):
    code = "no_such_vm"
    remedy = "See `skerry vm list` for what there is."


def blueprint(services: Services) -> flask.Blueprint:
    """Return the routes that only read."""
    routes = flask.Blueprint("vms", __name__)

    def vm_list(search: str = "", max: int = LINES_MAX) -> VmLines:
        view = services.mirror.view
        if not search:
            shown = views.page(view, 0, max)
            lines = tuple(_line(view, vm) for vm in shown)
            return VmLines(lines, len(view.vm_order))
        found = [
            vm for _, vm_id in view.vm_order if _fits(vm := view.vms[vm_id], search)
        ]
        return VmLines(tuple(_line(view, vm) for vm in found[:max]), len(found))

    def show(vm_id: str) -> VmDetail:
        return _detail(services.mirror.view, find(services, vm_id))

    def explain(request: NewVm) -> PlacementLines:
        spec = new_vm.spec(services.mirror.view, request)
        placement = services.orders.explain(spec)
        nodes = services.mirror.view.nodes
        chosen = nodes.get(placement.node_id) if placement.node_id else None
        return PlacementLines(
            chosen.name if chosen else None,
            tuple(
                VerdictLine(each.name, each.is_accepted, each.score, each.reasons)
                for each in placement.verdicts
            ),
        )

    def serial(vm_id: str, tail_bytes: int = TAIL_BYTES) -> bytes:
        return services.serial(find(services, vm_id).vm_id, tail_bytes)

    def screenshot(vm_id: str) -> bytes:
        return services.screenshot(find(services, vm_id).vm_id)

    for verb, handler in (
        (verbs.VM_LIST, vm_list),
        (verbs.VM_SHOW, show),
        (verbs.VM_EXPLAIN, explain),
        (verbs.VM_SERIAL, serial),
        (verbs.VM_SCREENSHOT, screenshot),
    ):
        face.bind(routes, verb, handler)
    return routes


def find(services: Services, vm_id: str) -> VmView:
    """Return a VM of the View; NoSuchVm."""
    vm = services.mirror.view.vms.get(VmId(vm_id))
    if vm is None:
        raise NoSuchVm(f"there is no VM {vm_id}", vm_id=vm_id)
    return vm


def _fits(vm: VmView, search: str) -> bool:
    wanted = search.casefold()
    return (
        not wanted
        or wanted in vm.name.casefold()
        or wanted == vm.state
        or wanted in vm.addresses
    )


def _line(view: View, vm: VmView) -> VmLine:
    node = view.nodes.get(vm.node_id)
    return VmLine(
        vm.vm_id,
        vm.name,
        node.name if node else vm.node_id,
        vm.state,
        vm.wanted,
        vm.since,
        vm.memory_bytes,
        vm.vcpus,
        vm.addresses,
        vm.reason,
    )


def _detail(view: View, vm: VmView) -> VmDetail:
    node = view.nodes.get(vm.node_id)
    definition = wire.decode(Vm, vm.vm_document, strict=False)
    run = (
        wire.decode(VmRun, vm.run_document, strict=False)
        if vm.run_document
        else VmRun(vm.vm_id, vm.node_id, vm.state, vm.since)
    )
    return VmDetail(
        node.name if node else vm.node_id,
        VmEntry(definition, run),
        vm.state,
        vm.reason,
        stats_of(view, vm.vm_id),
    )
