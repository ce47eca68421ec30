"""Read what nodes push into rows of the View, tolerantly.

Pure. A newer node may send fields and values that we do not know: what can be
read is shown, and the document is kept as it came.
"""

import json
from collections.abc import Mapping
from typing import Any

from aggregator.federation import tolerant
from aggregator.federation.view import VmView
from node import wire
from node.errors import Invalid
from node.model.host import NodeFacts
from node.model.ids import DiskId, NodeId, PoolId, TemplateId, VmId
from node.model.reason import Reason
from node.model.vm import VmState, Wanted


def read_vm(
    vm_id: VmId,
    node_id: NodeId,
    vm_document: bytes,
    run_document: bytes,
    silence: Reason | None = None,
) -> VmView:
    """Return the row of a VM from its documents, one of which may be missing.

    `silence` tells why nothing can be known of its state now.
    """
    vm, run = tolerant.mapping(vm_document), tolerant.mapping(run_document)
    spec, guest = tolerant.inner(vm, "spec"), tolerant.inner(run, "guest")
    cpu = tolerant.inner(spec, "cpu")
    last_state = tolerant.choice(VmState, run.get("state"), VmState.UNKNOWN)
    reason = tolerant.part(Reason, run.get("reason"))
    return VmView(
        vm_id=vm_id,
        name=tolerant.text(spec, "name") or vm_id,
        node_id=node_id,
        state=last_state if silence is None else VmState.UNKNOWN,
        wanted=tolerant.choice(Wanted, vm.get("wanted"), Wanted.DOWN),
        since=tolerant.text(run, "since") if silence is None else silence.since,
        reason=reason if silence is None else silence,
        memory_bytes=tolerant.number(spec, "memory_bytes", 0),
        vcpus=tolerant.number(cpu, "sockets", 1)
        * tolerant.number(cpu, "cores", 1)
        * tolerant.number(cpu, "threads", 1),
        addresses=tolerant.texts(guest, "addresses"),
        description=tolerant.text(spec, "description"),
        vm_document=vm_document,
        run_document=run_document,
        last_state=last_state,
        generation=tolerant.number(vm, "generation", 0),
        created_at=tolerant.text(vm, "created_at"),
        pool_id=PoolId(tolerant.text(spec, "pool_id")) or None,
        disk_ids=tuple(
            DiskId(tolerant.text(each, "disk_id"))
            for each in tolerant.objects(spec, "disks")
            if tolerant.text(each, "storage_domain_id")
        ),
        template_id=_template(spec),
        keeps_memory=tolerant.inner(vm, "memory").get("is_saved") is True,
    )


def _template(spec: Mapping[str, Any]) -> TemplateId | None:
    """Return the template that a VM needs; full clones need none."""
    if spec.get("is_clone") is True:
        return None
    return TemplateId(tolerant.text(spec, "template_id")) or None


def read_facts(document: bytes) -> NodeFacts | None:
    """Return what a node says of itself; None if it cannot be read."""
    try:
        return wire.decode(NodeFacts, document, strict=False)
    except Invalid:
        return None


def read_name(document: bytes, default: str) -> str:
    """Return the name in a document that has one."""
    return tolerant.text(tolerant.mapping(document), "name") or default


def encode_body(body: Mapping[str, Any]) -> bytes:
    """Return a document as compact JSON.

    Half surrogates, which no UTF-8 can hold, become question marks.
    """
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace")
