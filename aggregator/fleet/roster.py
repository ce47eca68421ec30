"""Know the aggregators of the fleet: the leader writes the list, nodes push to all.

It is part of the fleet's documents, so a rebuilt aggregator knows the others.
"""

from typing import Final

from aggregator import db
from node import wire
from node.model.fleet import AggregatorAddress

_KIND: Final = "aggregator/"


class Roster:
    def __init__(self, database: db.Database) -> None:
        self._records = database.records("fleet")

    def list(self) -> tuple[AggregatorAddress, ...]:
        """Return all aggregators of the fleet, by name."""
        return tuple(
            wire.from_json(AggregatorAddress, record.body, strict=False)
            for record in self._records.list()
            if record.id.startswith(_KIND)
        )

    def keep(self, aggregator: AggregatorAddress) -> bool:
        """Write an aggregator down; tell whether that was news."""
        body = wire.to_json(aggregator)
        before = self._records.get(_KIND + aggregator.name)
        if before is not None and before.body == body:
            return False
        self._records.put(_KIND + aggregator.name, body)
        return True

    def forget(self, name: str) -> bool:
        """Strike an aggregator off; tell whether there was one."""
        return self._records.delete(_KIND + name)
