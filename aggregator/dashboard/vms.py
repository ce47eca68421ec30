"""Serve the VMs: the list, each of them, what may be done to it, its screen."""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import flask

from aggregator.control.orders import Order, Orders, Origin
from aggregator.dashboard import (
    disk_rows,
    figures,
    listing,
    queries,
    rows,
    signs,
    snapshot_rows,
    visits,
)
from aggregator.dashboard import routes as routing
from aggregator.dashboard.pages import Pages
from aggregator.dashboard.routes import Route
from aggregator.dashboard.signs import Action
from aggregator.dashboard.visits import Visit
from aggregator.federation import view as views
from aggregator.federation.view import View, VmView
from aggregator.policies import properties as policy
from node import wire
from node.errors import NotFound
from node.model.ids import VmId
from node.model.job import ENDED
from node.model.properties import CustomProperty
from node.model.requests import StopManner
from node.model.verbs import ActionGroup, Object
from node.model.vm import Vm, VmRun

_EVENTS_SHOWN = 30
_MAKING = frozenset({"vm_create", "vm_clone"})
_ORDERS_SEARCHED = 100
_SERIAL_BYTES = 65536  # some hundred lines: what fits a look
_SHUTDOWN_S = 60.0


class NoSuchVm(NotFound):
    code = "no_such_vm"
    remedy = "It may have been deleted: look in the list of VMs."


_ORDERED: Mapping[str, Callable[[Orders, VmId, Origin], Order]] = {
    "start": lambda orders, vm_id, origin: orders.start_vm(vm_id, origin),
    "shutdown": lambda orders, vm_id, origin: orders.stop_vm(
        vm_id, origin, manner=StopManner.SHUTDOWN, deadline_s=_SHUTDOWN_S
    ),
    "stop": lambda orders, vm_id, origin: orders.stop_vm(
        vm_id, origin, manner=StopManner.FORCE
    ),
    "discard": lambda orders, vm_id, origin: orders.stop_vm(
        vm_id, origin, manner=StopManner.FORCE
    ),
    "pause": lambda orders, vm_id, origin: orders.pause_vm(vm_id, origin),
    "suspend": lambda orders, vm_id, origin: orders.suspend_vm(vm_id, origin),
    "resume": lambda orders, vm_id, origin: orders.resume_vm(vm_id, origin),
    "reset": lambda orders, vm_id, origin: orders.reset_vm(vm_id, origin),
    "delete": lambda orders, vm_id, origin: orders.delete_vm(vm_id, origin),
}
assert _ORDERED.keys() == signs.ACTION_BY_NAME.keys()


def show_all(pages: Pages, visit: Visit) -> flask.Response:
    """Return the list of VMs."""
    moment = pages.moments.now()
    query = queries.parse(routing.query_text())
    page = listing.vm_page(moment.view, query, routing.page_number())
    return pages.show(
        visit,
        "vms.html",
        moment,
        page=page,
        vms=[rows.vm_row(moment.view, vm, pages.translate) for vm in page.items],
        query=routing.query_text(),
    )


def show(pages: Pages, visit: Visit, vm_id: str) -> flask.Response:
    """Return the page of a VM, or of the order that is about to make it."""
    moment = pages.moments.now()
    orders = [
        order
        for order in pages.services.orders.list(maximum=_ORDERS_SEARCHED)
        if order.vm_id == vm_id
    ]
    vm = moment.view.vms.get(VmId(vm_id))
    if vm is None and orders and orders[0].verb in _MAKING:
        return pages.show_coming(visit, moment, "/ui/vms", "VMs", orders)
    vm = find(moment.view, vm_id)
    defined = definition(vm)
    run = _run(vm)
    events = pages.services.events.list(vm_id=vm.vm_id, maximum=_EVENTS_SHOWN)
    under_way = [
        each
        for each in orders
        if each.verb.startswith("vm_snapshot_") and each.state not in ENDED
    ]
    return pages.show(
        visit,
        "vm.html",
        moment,
        vm=vm,
        row=rows.vm_row(moment.view, vm, pages.translate),
        whys=rows.whys(vm.reason, pages.translate),
        definition=defined,
        disks=list(
            disk_rows.vm_disks(
                moment.view,
                defined.spec.disks if defined else (),
                pages.translate,
            )
        ),
        snapshots=(
            snapshot_rows.lines(defined, vm.state, is_worked_on=bool(under_way))
            if defined
            else ()
        ),
        snapshot_actions=snapshot_rows.of_vm(defined, vm.state) if defined else (),
        properties=list(_properties(defined)),
        facts=list(_facts(vm, defined, run)),
        figures_now=list(_figures(moment.view, vm)),
        run=run,
        has_screen=signs.has_screen(vm.state),
        events=[rows.event_row(each, pages.translate) for each in events],
        jobs=[rows.task_row(each, moment.view, pages.translate) for each in orders],
        snapshot_jobs=[
            rows.task_row(each, moment.view, pages.translate) for each in under_way
        ],
    )


def ask(action: Action, pages: Pages, visit: Visit, vm_id: str) -> flask.Response:
    """Return the page that asks whether an action is meant."""
    vm = find(pages.services.mirror.view, vm_id)
    return pages.show(visit, "confirm.html", action=action, vm=vm)


def do(action: Action, pages: Pages, visit: Visit, vm_id: str) -> flask.Response:
    """Order an action."""
    vm = find(pages.services.mirror.view, vm_id)
    order = _ORDERED[action.name](pages.services.orders, vm.vm_id, visit.origin)
    is_gone = action.name == "delete"
    response = routing.done(pages, "/ui/vms" if is_gone else f"/ui/vms/{vm_id}")
    visits.note_failure(response, order)
    return response


def send_screenshot(pages: Pages, _visit: Visit, vm_id: str) -> flask.Response:
    """Return what a VM's screen shows, a PNG."""
    vm = find(pages.services.mirror.view, vm_id)
    picture = pages.looks.take(lambda: pages.services.screenshot(vm.vm_id))
    return flask.Response(picture, content_type="image/png")


def send_serial(pages: Pages, _visit: Visit, vm_id: str) -> flask.Response:
    """Return the end of what a VM wrote to its serial line."""
    vm = find(pages.services.mirror.view, vm_id)
    text = pages.looks.take(lambda: pages.services.serial(vm.vm_id, _SERIAL_BYTES))
    return flask.Response(text, content_type="text/plain; charset=utf-8")


def find(view: View, vm_id: str) -> VmView:
    """Return a VM of the View; NoSuchVm if it has none of that id."""
    vm = view.vms.get(VmId(vm_id))
    if vm is None:
        raise NoSuchVm(f"there is no VM {vm_id}")
    return vm


def definition(vm: VmView) -> Vm | None:
    """Return what a VM is; None: nobody has told yet."""
    return wire.decode(Vm, vm.vm_document, strict=False) if vm.vm_document else None


def _run(vm: VmView) -> VmRun | None:
    return (
        wire.decode(VmRun, vm.run_document, strict=False) if vm.run_document else None
    )


def _properties(defined: Vm | None) -> Iterator[tuple[str, CustomProperty]]:
    """Yield the custom properties, each with the name of the device that has it."""
    for holder in policy.holders(defined.spec) if defined else ():
        name = holder.name if holder.device_id else ""
        yield from ((name, each) for each in holder.properties)


def _facts(
    vm: VmView, defined: Vm | None, run: VmRun | None
) -> Iterator[tuple[str, str]]:
    """Yield what a VM is: what it is called, what it is."""
    yield "Memory", figures.size(vm.memory_bytes)
    yield "CPUs", str(vm.vcpus)
    if defined:
        spec = defined.spec
        cpu = spec.cpu
        yield "CPU layout", figures.layout(cpu.sockets, cpu.cores, cpu.threads)
        yield "CPU model", cpu.model or cpu.mode.value.replace("_", " ")
        yield "Firmware", spec.firmware.value.upper()
        yield "Machine type", spec.machine or ""
    if run and signs.has_screen(vm.state):
        yield "Runs by", "emulation" if run.is_emulated else "KVM"
    if run and run.guest:
        yield "Guest's name", run.guest.host_name
        yield "Guest's system", run.guest.os
    yield "VM id", vm.vm_id


def _figures(view: View, vm: VmView) -> Iterator[tuple[str, str]]:
    """Yield what a running VM moves just now."""
    stats = views.stats_of(view, vm.vm_id)
    if stats is None or not signs.has_screen(vm.state):
        return
    yield "Disk read", figures.rate(stats.disk_read_bps)
    yield "Disk written", figures.rate(stats.disk_write_bps)
    yield "Received", figures.rate(stats.net_rx_bps)
    yield "Sent", figures.rate(stats.net_tx_bps)


_ONE: Final = "/ui/vms/<vm_id>"
_SEE: Final = (ActionGroup.READ, Object.VM)
_CONNECT: Final = (ActionGroup.CONNECT_TO_VM, Object.VM)
ROUTES: Final = (
    Route("GET", "/ui/vms", show_all, *_SEE),
    Route("GET", _ONE, show, *_SEE),
    Route("GET", f"{_ONE}/screen.png", send_screenshot, *_CONNECT, is_polled=True),
    Route("GET", f"{_ONE}/serial.txt", send_serial, *_CONNECT, is_polled=True),
    *(
        Route(
            method,
            f"{_ONE}/{each.name}",
            functools.partial(handler, each),
            each.group,
            Object.VM,
        )
        for method, handler in (("GET", ask), ("POST", do))
        for each in signs.ACTIONS
    ),
)
