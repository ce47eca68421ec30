"""oVirt's own Python SDK, unmodified, works a VM on real hosts."""

from collections.abc import Iterator
from pathlib import Path

import ovirtsdk4
import pytest
from ovirtsdk4 import types

from tests.lab import fleet, waiting
from tests.lab.story.conftest import Story

URL = "https://localhost:{port}/ovirt-engine/api"


@pytest.fixture
def connection(story: Story, tmp_path: Path) -> Iterator[ovirtsdk4.Connection]:
    """Return a connection that trusts the fleet's CA only."""
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(story.fleet.session().ca_certificate)
    connection = ovirtsdk4.Connection(
        url=URL.format(port=story.fleet.port),
        username=fleet.USER,
        password=fleet.PASSWORD,
        ca_file=str(ca_file),
    )
    yield connection
    connection.close()


def test_sdk_lists_the_hosts(connection: ovirtsdk4.Connection) -> None:
    hosts = connection.system_service().hosts_service().list()
    assert {host.name for host in hosts} == {"h1", "h2", "h3"}
    assert {host.status for host in hosts} == {types.HostStatus.UP}
    assert all(host.memory > 0 for host in hosts)


def test_sdk_creates_starts_and_removes_a_vm(connection: ovirtsdk4.Connection) -> None:
    vms = connection.system_service().vms_service()
    made = vms.add(
        types.Vm(
            name="by-sdk",
            cluster=types.Cluster(name="Default"),
            template=types.Template(name=fleet.IMAGE),
            memory=128 * 1024 * 1024,
        )
    )
    service = vms.vm_service(made.id)
    waiting.until(
        "the VM down", lambda: service.get().status is types.VmStatus.DOWN or None
    )
    service.start()
    waiting.until(
        "the VM up",
        lambda: service.get().status is types.VmStatus.UP or None,
        timeout_s=fleet.START_TIMEOUT_S,
    )
    assert service.get().host is not None
    (found,) = vms.list(search="name=by-sdk and status=up")
    assert found.id == made.id
    service.stop()
    waiting.until(
        "the VM down again", lambda: service.get().status is types.VmStatus.DOWN or None
    )
    service.remove()
    waiting.until("the VM gone", lambda: not vms.list(search="name=by-sdk"))


def test_sdk_reads_events_and_jobs(connection: ovirtsdk4.Connection) -> None:
    system = connection.system_service()
    (newest,) = system.events_service().list(max=1)
    assert int(newest.id) > 0
    assert system.jobs_service().list() is not None
