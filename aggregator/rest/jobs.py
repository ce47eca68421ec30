"""Show orders as oVirt's jobs: what was asked, and how far it is."""

from collections.abc import Iterable, Mapping
from typing import Final

from aggregator.access import identity
from aggregator.control.orders import Order
from aggregator.federation.view import View
from aggregator.rest import element, fleet, select
from aggregator.rest.call import Call, Collection
from aggregator.rest.resource import Below, Context, Field, Reference, Resource
from aggregator.rest.search import Kind, Query, SearchField
from aggregator.services import Services
from node.errors import NotFound
from node.model.ids import JobId
from node.model.job import JobState
from node.model.verbs import Object

STATUS: Final[Mapping[JobState, str]] = {
    JobState.QUEUED: "started",
    JobState.RUNNING: "started",
    JobState.DONE: "finished",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "aborted",
}
_VERBS: Final[Mapping[str, str]] = {
    "vm_create": "Creating VM",
    "vm_delete": "Removing VM",
    "vm_export": "Exporting VM",
    "storage_domain_remove_exported": "Removing VM from export domain",
    "template_export": "Exporting Template",
    "vm_start": "Launching VM",
    "vm_stop": "Stopping VM",
    "vm_pause": "Pausing VM",
    "vm_resume": "Resuming VM",
    "vm_suspend": "Hibernating VM",
    "vm_reset": "Resetting VM",
    "vm_attach_disk": "Attaching Disk to VM",
    "vm_detach_disk": "Detaching Disk from VM",
    "vm_set_properties": "Updating VM",
    "vm_clone": "Cloning VM",
    "vm_snapshot_create": "Creating VM Snapshot for VM",
    "vm_snapshot_delete": "Removing Snapshot of VM",
    "vm_snapshot_preview": "Previewing Snapshot of VM",
    "vm_snapshot_commit": "Committing Snapshot of VM",
    "vm_snapshot_undo": "Undoing Snapshot Preview of VM",
    "storage_domain_create": "Adding Storage Domain",
    "storage_domain_import": "Importing Storage Domain",
    "storage_domain_attach": "Attaching Storage Domain",
    "storage_domain_change": "Editing Storage Domain",
    "storage_domain_activate": "Activating Storage Domain",
    "storage_domain_maintain": "Deactivating Storage Domain",
    "storage_domain_detach": "Detaching Storage Domain",
    "storage_domain_remove": "Removing Storage Domain",
    "storage_domain_repair": "Repairing Storage Domain",
    "storage_domain_register_vm": "Importing VM from Storage Domain",
    "storage_domain_write_ovf": "Updating OVF_STORE of Storage Domain",
    "pool_create": "Adding Storage Pool",
    "pool_connect": "Connecting Host to Storage Pool",
    "pool_disconnect": "Disconnecting Host from Storage Pool",
    "pool_move_master": "Moving Master of Storage Pool",
    "spm_become": "Selecting SPM of Storage Pool",
    "spm_leave": "Releasing SPM of Storage Pool",
    "spm_priority": "Setting SPM Priority in Storage Pool",
    "disk_create": "Adding Disk",
    "disk_delete": "Removing Disk",
    "disk_resize": "Extending Disk",
    "disk_change": "Editing Disk",
    "disk_copy": "Copying Disk",
    "disk_move": "Moving Disk",
    "disk_sparsify": "Sparsifying Disk",
}
# Orders that people look at: as many as are kept.
_ORDERS_MAX: Final = 1000


def description(order: Order) -> str:
    """Return what was asked, for a person."""
    return f"{_VERBS.get(order.verb, order.verb)} {order.name}"


def _updated(context: Context, order: Order) -> element.Content:
    return element.moment(order.ended_at or order.created_at)


def _step(context: Context, order: Order) -> str:
    error = order.error
    return error.message if error is not None else order.step or description(order)


def execution_host(view: View, order: Order) -> str | None:
    """Return who does it: while data are moved, the node that moves them."""
    node_id = order.data_node_id or order.node_id
    return f"hosts/{node_id}" if node_id in view.nodes else None


_STEP: Final[Resource[Order]] = Resource(
    "step",
    "steps",
    lambda order: fleet.derived_id(order.order_id, "step"),
    (
        Field("description", _step),
        Field("number", lambda context, row: 0),
        Field("progress", lambda context, row: row.progress_percent),
        Field("status", lambda context, row: STATUS[row.state]),
        Field("type", lambda context, row: "executing"),
        Field("external", lambda context, row: False),
        Field("start_time", lambda context, row: element.moment(row.created_at)),
        Field("end_time", lambda context, row: element.moment(row.ended_at)),
    ),
    (
        Reference("job", lambda context, row: f"jobs/{row.order_id}"),
        Reference(
            "execution_host", lambda context, row: execution_host(context.view, row)
        ),
    ),
)

RESOURCE: Final[Resource[Order]] = Resource(
    "job",
    "jobs",
    lambda order: order.order_id,
    (
        Field("description", lambda context, row: description(row)),
        Field("status", lambda context, row: STATUS[row.state]),
        Field("start_time", lambda context, row: element.moment(row.created_at)),
        Field("end_time", lambda context, row: element.moment(row.ended_at)),
        Field("last_updated", _updated),
        Field("external", lambda context, row: False),
        Field("auto_cleared", lambda context, row: True),
        Field("correlation_id", lambda context, row: row.correlation_id or None),
    ),
    (
        Reference(
            "owner", lambda context, row: f"users/{identity.user_id_of(row.user)}"
        ),
    ),
    (Below("steps", _STEP, lambda context, row: (row,)),),
)


def find(services: Services, context: Context, object_id: str) -> Order | None:
    """Return the object of an id, or None if there is none."""
    try:
        return services.orders.get(JobId(object_id))
    except NotFound:
        return None


_FIELDS: Final[Mapping[str, SearchField[Order]]] = {
    "id": SearchField(lambda row: row.order_id),
    "description": SearchField(description),
    "status": SearchField(lambda row: STATUS[row.state], Kind.STATUS),
    "correlation_id": SearchField(lambda row: row.correlation_id),
    "start_time": SearchField(lambda row: element.moment(row.created_at), Kind.TIME),
    "vm.id": SearchField(lambda row: row.vm_id),
    "vm.name": SearchField(lambda row: row.name if row.vm_id else None),
}


def _select(call: Call, query: Query, maximum: int | None) -> Iterable[Order]:
    orders = call.services.orders.list(_ORDERS_MAX)
    return select.rows(orders, query, maximum, _FIELDS)


COLLECTION: Final = Collection("jobs", RESOURCE, Object.FLEET, find, _select)
