"""Give tests of the REST API a client."""

import pytest

from tests.fakes import fleet_storage
from tests.unit.aggregator.rest.client import Client, make_client


@pytest.fixture
def client() -> Client:
    return make_client()


@pytest.fixture
def stored() -> Client:
    """Return a client of a fleet that has storage."""
    return make_client(fleet_storage.make_fleet())
