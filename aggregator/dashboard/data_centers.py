"""Read the fleet's data centers, as far as pages name them."""

from typing import Final

from aggregator.services import Services

_PREFIX: Final = "data_center/"


def all_of(services: Services) -> tuple[tuple[str, str], ...]:
    """Return (id, name) of each data center, by name."""
    found = (
        (record.id.removeprefix(_PREFIX), str(record.body["name"]))
        for record in services.database.records("fleet").list()
        if record.id.startswith(_PREFIX)
    )
    return tuple(sorted(found, key=lambda each: each[1].casefold()))
