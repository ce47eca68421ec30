"""What the dashboard's tests share."""

import pytest

from aggregator.federation.view import View
from tests.fakes import fleet_storage, services


@pytest.fixture(scope="session")
def storage() -> View:
    """Return a View with pools, storage domains and disks; nobody changes it."""
    return fleet_storage.add_storage(services.make_view())
