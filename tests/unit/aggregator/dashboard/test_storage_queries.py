"""Tests of aggregator.dashboard.storage_queries."""

import pytest

from aggregator.dashboard import listing, queries, storage_queries
from aggregator.federation.view import View
from node.model.storage import DiskState
from tests.fakes import fleet_storage as stored
from tests.fakes.services import OAK
from tests.unit.aggregator.dashboard.examples import say


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("", ["debian.iso", "loose", "scratch", "system"], id="all"),
        pytest.param("LOO", ["loose"], id="name"),
        pytest.param("elm-local", ["scratch"], id="word-of-its-place"),
        pytest.param("app", ["system"], id="word-of-its-vm"),
        pytest.param(stored.CD, ["debian.iso"], id="id"),
        pytest.param("name=s*", ["scratch", "system"], id="name-field"),
        pytest.param("status=illegal", ["loose"], id="status"),
        pytest.param("alert=yes", ["loose"], id="alert"),
        pytest.param("storage=elm*", ["scratch"], id="storage"),
        pytest.param(
            "storage!=elm*", ["debian.iso", "loose", "system"], id="not-there"
        ),
        pytest.param("vm=app", ["system"], id="vm"),
        pytest.param('vm=""', ["debian.iso", "loose", "scratch"], id="of-no-vm"),
        pytest.param("Disks: loose data1", ["loose"], id="two-words"),
        pytest.param("node=oak", [], id="unknown-of-disks"),
    ],
)
def test_find_disks_by_what_is_typed(
    text: str, names: list[str], storage: View
) -> None:
    told = stored.disk(stored.LOOSE, "loose", state=DiskState.ILLEGAL)
    view = say(storage, OAK, told)
    found = storage_queries.find_disks(view, queries.parse(text))
    assert [each.name for each in found] == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        pytest.param("data", ["data1", "data2"], id="word"),
        pytest.param("NFS", ["data1", "iso1"], id="kind"),
        pytest.param("status=maintenance", ["iso1"], id="status"),
        pytest.param("node=elm name=data*", ["data1", "data2"], id="node"),
        pytest.param("description=*spare*", ["spare"], id="description"),
        pytest.param("alert=yes", [], id="alert"),
    ],
)
def test_find_domains_by_what_is_typed(
    text: str, names: list[str], storage: View
) -> None:
    found = storage_queries.find_domains(storage, queries.parse(text))
    assert [each.name for each in found] == names


def test_vms_are_found_by_the_storage_of_their_disks(storage: View) -> None:
    found = queries.find_vms(storage, queries.parse("storage=data1"))
    assert [each.name for each in found] == ["app"]


def test_disk_page_without_a_question_is_a_slice(storage: View) -> None:
    page = listing.disk_page(storage, queries.parse(""), 1)
    assert ([each.name for each in page.items], page.total) == (
        ["debian.iso", "loose", "scratch", "system"],
        4,
    )


def test_local_page_has_the_folders_of_nodes(storage: View) -> None:
    page = listing.local_page(storage, 1)
    assert [each.name for each in page.items] == ["elm-local", "oak-local"]
