"""Make the next View's templates while one node speaks.

Pure but for its own draft. As with disks, the pool's manager is believed; what a
former manager told stays until the next one has spoken, and is void then.
"""

from typing import Any, Final

from immutables import Map

from aggregator.federation import storage_reading
from aggregator.federation.naming import Naming
from aggregator.federation.view import NodeView, PoolRow, TemplateRow, View
from node.model.feed import Kind
from node.model.ids import PoolId, TemplateId

_NO_LEASE: Final = -1  # below that of a document without a mark


class TemplatesDraft:
    def __init__(self, view: View, node: NodeView) -> None:
        self._view = view
        self._node_id = node.node_id
        self._own = set(node.template_ids)
        self._said: dict[TemplateId, bytes | None] = {}

    def known(self) -> list[tuple[str, str]]:
        """Return (kind, id) of what the node has said so far."""
        return [(Kind.TEMPLATE, template_id) for template_id in self._own]

    def take(self, template_id: TemplateId, body: bytes | None) -> None:
        """Put a node's document of a template in, or out."""
        self._said[template_id] = body

    def finish(
        self,
        pools: Map[PoolId, PoolRow],
        leases: Map[PoolId, int],
        raised: set[PoolId],
    ) -> dict[str, Any]:
        """Return the fields of the View that hold them.

        `raised` are the pools whose disks are told under a newer lease by now.
        """
        claims, shown = self._view.template_claims, self._view.templates
        names = Naming(self._view.template_order)
        touched = set(self._said)
        touched |= {key for key, row in shown.items() if row.pool_id in raised}
        for template_id in touched:
            after = self._claims(template_id, claims.get(template_id, ()), pools)
            lease = max(
                (max(_lease(each), _of_disks(each, leases)) for each in after),
                default=_NO_LEASE,
            )
            valid = sorted(
                (each for each in after if _lease(each) >= lease), key=_authority
            )
            after = tuple(each for each in after if each in valid or not each.is_left)
            before = shown.get(template_id)
            row = valid[0] if valid else None
            claims = _set(claims, template_id, after or None)
            shown = _set(shown, template_id, row)
            names.change(template_id, *(e.name if e else None for e in (before, row)))
        return {
            "templates": shown,
            "template_claims": claims,
            "template_order": names.finish(),
        }

    def finish_node(self) -> dict[str, Any]:
        """Return the fields of the node that tell what it said."""
        return {"template_ids": frozenset(self._own)}

    def _claims(
        self,
        template_id: TemplateId,
        before: tuple[TemplateRow, ...],
        pools: Map[PoolId, PoolRow],
    ) -> tuple[TemplateRow, ...]:
        """Return all that is said of a template by now."""
        if template_id not in self._said:
            return before
        body = self._said[template_id]
        others = tuple(each for each in before if each.node_id != self._node_id)
        if body is not None:
            self._own.add(template_id)
            return (
                *others,
                storage_reading.read_template(template_id, self._node_id, body),
            )
        self._own.discard(template_id)
        left = tuple(
            each.leave()
            for each in before
            if each.node_id == self._node_id and self._has_left(each, pools)
        )
        return (*others, *left)

    def _has_left(self, row: TemplateRow, pools: Map[PoolId, PoolRow]) -> bool:
        """Tell whether who told a template manages its pool no more: it is not gone."""
        pool = pools.get(row.pool_id) if row.pool_id is not None else None
        sight = None if pool is None else pool.sights.get(self._node_id)
        return sight is not None and sight.mark is None


def _lease(row: TemplateRow) -> int:
    return _NO_LEASE if row.mark is None else row.mark.lease_version


def _of_disks(row: TemplateRow, leases: Map[PoolId, int]) -> int:
    """Return the newest lease under which disks of the pool were told."""
    return leases.get(row.pool_id, _NO_LEASE) if row.pool_id else _NO_LEASE


def _authority(row: TemplateRow) -> tuple[object, ...]:
    generation = 0 if row.mark is None else row.mark.generation
    return -_lease(row), -generation, row.is_left, row.node_id


def _set(entries: Map[Any, Any], key: TemplateId, value: object) -> Map[Any, Any]:
    if value is not None:
        return entries.set(key, value)
    return entries.delete(key) if key in entries else entries
