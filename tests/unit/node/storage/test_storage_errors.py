"""Every error of pools, storage domains and leases has a text for reasons."""

import inspect
from types import ModuleType

import pytest

from node.errors import Error
from node.model import messages
from node.model.messages import Severity
from node.storage.disks import startable
from node.storage.domains import access, formatting, host_ids
from node.storage.formats import pool_map
from node.storage.spm import map_memory, pool, pool_rules, structure_lease
from node.storage.spm import term as spm
from node.system import leases, mounts

MODULES = (
    map_memory,
    *(access, formatting, host_ids, leases, mounts, pool, pool_map, pool_rules, spm),
    *(startable, structure_lease),
)
# Their events say more.
EVENTS = {"pool_maps_differ", "spm_lost"}


def errors(module: ModuleType) -> list[type[Error]]:
    found = (each for _, each in inspect.getmembers(module, inspect.isclass))
    return [
        each
        for each in found
        if issubclass(each, Error) and each.__module__ == module.__name__
    ]


CLASSES = [each for module in MODULES for each in errors(module)]


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.code)
def test_error_has_a_text_and_one_remedy(error: type[Error]) -> None:
    message = messages.MESSAGES[error.code]
    assert message.severity in (Severity.ERROR, Severity.WARNING)
    assert message.remedy == error.remedy or error.code in EVENTS


def test_codes_are_unique() -> None:
    codes = [each.code for each in CLASSES]
    assert sorted(codes) == sorted(set(codes))
