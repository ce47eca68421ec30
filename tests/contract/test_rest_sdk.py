"""Drive our REST API with oVirt's own Python SDK, over HTTP on loopback."""

from collections.abc import Iterator

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from tests.contract.sdk import Served, connect, serve
from tests.fakes import services as fakes
from tests.fakes.services import make_fleet


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(make_fleet()) as found:
        yield found


@pytest.fixture
def connection(served: Served) -> Iterator[sdk.Connection]:
    with connect(served) as opened:
        yield opened


@pytest.fixture
def system(connection: sdk.Connection) -> sdk.services.SystemService:
    return connection.system_service()


def test_connection_passes_its_own_test(connection: sdk.Connection) -> None:
    assert connection.test(raise_exception=True)


def test_entry_point_names_the_version(system: sdk.services.SystemService) -> None:
    product = system.get().product_info
    assert product.name == "oVirt Engine"
    assert (product.version.major, product.version.minor) == (4, 5)


def test_wrong_password_is_an_authentication_error(served: Served) -> None:
    with (
        pytest.raises(sdk.AuthError, match="Cannot authenticate"),
        connect(served, password="wrong horse") as connection,
    ):
        connection.system_service().get()


def test_false_token_is_an_authentication_error(served: Served) -> None:
    settings = {"username": None, "password": None, "token": "0" * 64}
    with pytest.raises(sdk.AuthError), connect(served, **settings) as connection:
        connection.system_service().get()


def test_closing_the_connection_ends_the_session(served: Served) -> None:
    with connect(served) as connection:
        token = connection.authenticate()
        assert served.fleet.access.identify(token) is not None
    assert served.fleet.access.identify(token) is None


@pytest.mark.parametrize(
    ("search", "names"),
    [
        (None, ["build", "db", "old", "web1", "web2"]),
        ("", ["build", "db", "old", "web1", "web2"]),
        ('name="web1"', ["web1"]),
        ("name=WEB* and status=up", ["web1"]),
        ("host=oak sortby name desc", ["web1", "db"]),
        ("cluster=Default and datacenter=Default and status=down", ["build", "web2"]),
    ],
    ids=["none", "empty", "name", "wildcard", "host-sorted", "parents"],
)
def test_vms_are_found(
    system: sdk.services.SystemService, search: str | None, names: list[str]
) -> None:
    found = system.vms_service().list(search=search)
    assert [vm.name for vm in found] == names


def test_bad_search_is_an_error_with_its_reason(
    system: sdk.services.SystemService,
) -> None:
    with pytest.raises(sdk.Error, match="no field colour") as raised:
        system.vms_service().list(search="colour=red")
    assert raised.value.code == 400


def test_vm_has_what_ansible_reads(system: sdk.services.SystemService) -> None:
    vm = system.vms_service().vm_service(fakes.WEB1).get(all_content=True)
    assert vm.status is types.VmStatus.UP
    assert vm.memory == vm.memory_policy.guaranteed == 2 * 2**30
    assert vm.cpu.topology.cores == 2
    assert vm.os.boot.devices == [types.BootDevice.HD]
    assert vm.placement_policy.affinity is types.VmAffinity.PINNED
    assert vm.template.id != vm.cluster.id
    assert vm.bios.boot_menu.enabled is False
    assert vm.soundcard_enabled is False


def test_links_and_references_are_followed(
    connection: sdk.Connection, system: sdk.services.SystemService
) -> None:
    vm = system.vms_service().vm_service(fakes.WEB1).get()
    assert connection.follow_link(vm.host).name == "oak"
    cluster = connection.follow_link(vm.cluster)
    assert connection.follow_link(cluster.data_center).name == "Default"
    (attachment,) = connection.follow_link(vm.disk_attachments)
    assert attachment.bootable
    (nic,) = connection.follow_link(vm.nics)
    profile = connection.follow_link(nic.vnic_profile)
    assert connection.follow_link(profile.network).name == "skerry"
    assert connection.follow_link(vm.template).name == "debian-12"


def test_follow_embeds_what_it_names(system: sdk.services.SystemService) -> None:
    vm = (
        system.vms_service()
        .vm_service(fakes.WEB1)
        .get(follow="nics.reported_devices,disk_attachments,cluster.data_center")
    )
    (device,) = vm.nics[0].reported_devices
    assert [ip.version for ip in device.ips] == [
        types.IpVersion.V4,
        types.IpVersion.V6,
    ]
    assert vm.disk_attachments[0].active
    assert vm.cluster.data_center.name == "Default"


def test_hosts_show_their_state(system: sdk.services.SystemService) -> None:
    hosts = {host.name: host for host in system.hosts_service().list()}
    assert hosts["oak"].status is types.HostStatus.UP
    assert hosts["ash"].status is types.HostStatus.NON_RESPONSIVE
    assert hosts["oak"].os.custom_kernel_cmdline == ""
    assert hosts["oak"].spm.status is types.SpmStatus.NONE
    nics = system.hosts_service().host_service(fakes.OAK).nics_service().list()
    assert [nic.status for nic in nics] == [types.NicStatus.UP, types.NicStatus.DOWN]


def test_statistics_have_a_datum(system: sdk.services.SystemService) -> None:
    host = system.hosts_service().host_service(fakes.OAK)
    figures = {each.name: each for each in host.statistics_service().list()}
    assert figures["memory.total"].values[0].datum == 32 * 2**30
    assert figures["cpu.current.idle"].unit is types.StatisticUnit.PERCENT


def test_life_of_a_vm(system: sdk.services.SystemService) -> None:
    service = system.vms_service()
    made = service.add(
        types.Vm(
            name="new",
            cluster=types.Cluster(name="Default"),
            template=types.Template(name="debian-12"),
            memory=2**30,
            cpu=types.Cpu(topology=types.CpuTopology(cores=2, sockets=1, threads=1)),
        )
    )
    vm = service.vm_service(made.id)
    assert made.status is types.VmStatus.DOWN
    vm.start()
    assert vm.get().status is types.VmStatus.UP
    vm.shutdown()
    assert vm.get().status is types.VmStatus.DOWN
    vm.stop()
    vm.remove()
    with pytest.raises(sdk.NotFoundError):
        vm.get()


def test_adding_a_vm_twice_is_a_conflict(system: sdk.services.SystemService) -> None:
    vm = types.Vm(
        name="web1",
        cluster=types.Cluster(name="Default"),
        template=types.Template(name="Blank"),
    )
    with pytest.raises(sdk.Error) as raised:
        system.vms_service().add(vm)
    assert raised.value.code == 409


def test_what_is_not_supported_says_so(system: sdk.services.SystemService) -> None:
    vm = system.vms_service().vm_service(fakes.WEB1)
    with pytest.raises(sdk.Error, match="migrate of a VM is not supported") as raised:
        vm.migrate()
    assert raised.value.code == 501


def test_events_come_newest_first_and_from_a_number(
    system: sdk.services.SystemService,
) -> None:
    service = system.events_service()
    (newest,) = service.list(max=1)
    system.vms_service().vm_service(fakes.WEB2).start()
    later = service.list(from_=int(newest.id), search="type=32")
    assert [event.code for event in later] == [32]
    assert later[0].vm.id == fakes.WEB2


def test_jobs_are_found_by_their_correlation_id(
    system: sdk.services.SystemService,
) -> None:
    vm = system.vms_service().vm_service(fakes.WEB2)
    vm.start(query={"correlation_id": "my-id"})
    (job,) = system.jobs_service().list(search="correlation_id=my-id")
    assert job.status is types.JobStatus.FINISHED
    assert job.description == "Launching VM web2"


def test_templates_are_blank_and_the_images(
    system: sdk.services.SystemService,
) -> None:
    found = system.templates_service().list()
    assert [each.name for each in found] == ["Blank", "debian-12", "fedora-43"]
    assert all(each.version.version_number == 1 for each in found)
    (blank,) = system.templates_service().list(
        search="name=Blank and datacenter=Default"
    )
    assert blank.id == "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    "name",
    [
        "affinity_labels_service",
        "bookmarks_service",
        "clusters_service",
        "data_centers_service",
        "disk_profiles_service",
        "disks_service",
        "domains_service",
        "events_service",
        "groups_service",
        "hosts_service",
        "instance_types_service",
        "jobs_service",
        "mac_pools_service",
        "networks_service",
        "permissions_service",
        "roles_service",
        "storage_connections_service",
        "storage_domains_service",
        "tags_service",
        "templates_service",
        "users_service",
        "vm_pools_service",
        "vms_service",
        "vnic_profiles_service",
    ],
)
def test_every_collection_can_be_read(
    system: sdk.services.SystemService, name: str
) -> None:
    for each in getattr(system, name)().list():
        assert each.href.startswith("/ovirt-engine/api/")
