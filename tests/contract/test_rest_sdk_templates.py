"""Work templates with oVirt's own Python SDK, over HTTP on loopback.

The calls are those that the modules of ovirt.ovirt make, in their order.
"""

from collections.abc import Iterator

import ovirtsdk4 as sdk
import pytest
from ovirtsdk4 import types

from node.model.exports import ExportTemplate
from tests.contract.sdk import Served, connect, serve
from tests.fakes import fleet_storage
from tests.fakes.fleet_storage import APP, DATA1, DATA2
from tests.fakes.services import WEB1


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(fleet_storage.make_fleet()) as found:
        yield found


@pytest.fixture
def system(served: Served) -> Iterator[sdk.services.SystemService]:
    with connect(served) as opened:
        yield opened.system_service()


@pytest.fixture
def made(system: sdk.services.SystemService) -> types.Template:
    """Make a template as ovirt_template does."""
    service = system.templates_service()
    found = service.list(search='name="tpl" and cluster="Default"')
    assert found == []
    template = service.add(
        types.Template(
            name="tpl",
            description="as installed",
            cluster=types.Cluster(name="Default"),
            vm=types.Vm(id=APP),
        ),
        seal=False,
        clone_permissions=False,
    )
    again: types.Template = service.template_service(template.id).get()
    return again


def vm_of(system: sdk.services.SystemService, **fields: object) -> types.Vm:
    return types.Vm(
        **{"name": "made", "cluster": types.Cluster(name="Default"), **fields}
    )


def test_a_template_of_a_vm_has_what_ansible_reads(
    system: sdk.services.SystemService, made: types.Template
) -> None:
    assert made.status is types.TemplateStatus.OK
    assert made.description == "as installed"
    assert made.version.version_number == 1
    assert made.version.base_template.id == made.id
    assert made.memory > 0
    assert made.memory_policy.guaranteed == made.memory
    assert made.cpu.topology.cores >= 1
    (found,) = system.templates_service().list(search="name=tpl and datacenter=Default")
    assert found.id == made.id
    service = system.templates_service().template_service(made.id)
    (attachment,) = service.disk_attachments_service().list()
    disk = system.disks_service().disk_service(attachment.disk.id).get()
    assert disk.name == "system"
    assert service.cdroms_service().list() == []
    assert len(service.nics_service().list()) == 1


def test_a_template_is_exported(
    served: Served, system: sdk.services.SystemService, made: types.Template
) -> None:
    service = system.templates_service().template_service(made.id)
    service.export(storage_domain=types.StorageDomain(name="data2"))
    verb, template_id, request, _ = served.fleet.orders.storage.asked[-1]
    assert (verb, template_id) == ("template_export", made.id)
    assert request == ExportTemplate(fleet_storage.DATA2)


def test_a_template_of_a_running_vm_is_refused(
    system: sdk.services.SystemService,
) -> None:
    with pytest.raises(sdk.Error, match="is running") as raised:
        system.templates_service().add(types.Template(name="tpl", vm=types.Vm(id=WEB1)))
    assert raised.value.code == 409


def test_a_template_is_locked_while_it_is_made(
    served: Served, system: sdk.services.SystemService
) -> None:
    served.fleet.orders.is_held = True
    service = system.templates_service()
    template = service.add(types.Template(name="tpl", vm=types.Vm(name="app")))
    again = service.template_service(template.id).get()
    assert again.status is types.TemplateStatus.LOCKED
    (order,) = served.fleet.orders.list()
    served.fleet.orders.finish(order.order_id)
    again = service.template_service(template.id).get()
    assert again.status is types.TemplateStatus.OK


def test_a_thin_vm_needs_its_template(
    system: sdk.services.SystemService, made: types.Template
) -> None:
    vms, service = system.vms_service(), system.templates_service()
    vm = vms.add(vm_of(system, template=types.Template(name="tpl")))
    assert (vm.template.id, vm.original_template.id) == (made.id, made.id)
    (found,) = service.list(search="vm.name=made")
    assert found.id == made.id
    with pytest.raises(sdk.Error, match="used by the following VMs: made") as raised:
        service.template_service(made.id).remove()
    assert raised.value.code == 409
    vms.vm_service(vm.id).remove()
    service.template_service(made.id).remove()
    with pytest.raises(sdk.NotFoundError):
        service.template_service(made.id).get()


def test_a_full_clone_has_blank_as_its_template(
    served: Served, system: sdk.services.SystemService, made: types.Template
) -> None:
    template = system.templates_service().template_service(made.id)
    (attachment,) = template.disk_attachments_service().list()
    place = types.Disk(
        id=attachment.disk.id,
        format=types.DiskFormat.RAW,
        storage_domains=[types.StorageDomain(id=DATA2)],
    )
    served.fleet.orders.is_held = True
    vm = system.vms_service().add(
        vm_of(
            system,
            template=types.Template(id=made.id),
            disk_attachments=[types.DiskAttachment(disk=place)],
        ),
        clone=True,
        clone_permissions=False,
    )
    service = system.vms_service().vm_service(vm.id)
    assert service.get().status is types.VmStatus.IMAGE_LOCKED
    order = served.fleet.orders.list()[0]
    served.fleet.orders.finish(order.order_id)
    vm = service.get()
    assert vm.status is types.VmStatus.DOWN
    assert vm.original_template.id == made.id
    blank = system.templates_service().template_service(vm.template.id).get()
    assert blank.name == "Blank"
    template.remove()


def test_a_thin_vm_lies_where_the_template_does(
    system: sdk.services.SystemService, made: types.Template
) -> None:
    template = system.templates_service().template_service(made.id)
    (attachment,) = template.disk_attachments_service().list()

    def add(place: str) -> types.Vm:
        disk = types.Disk(
            id=attachment.disk.id, storage_domains=[types.StorageDomain(id=place)]
        )
        return system.vms_service().add(
            vm_of(
                system,
                template=types.Template(id=made.id),
                disk_attachments=[types.DiskAttachment(disk=disk)],
            )
        )

    with pytest.raises(sdk.Error, match="does not lie on data2"):
        add(DATA2)
    assert add(DATA1).template.id == made.id


def test_a_version_has_the_name_of_its_base(
    system: sdk.services.SystemService, made: types.Template
) -> None:
    service = system.templates_service()
    second = service.add(
        types.Template(
            name="tpl",
            vm=types.Vm(id=APP),
            version=types.TemplateVersion(
                base_template=types.Template(id=made.id), version_name="newer"
            ),
        )
    )
    version = service.template_service(second.id).get().version
    assert (version.version_number, version.version_name) == (2, "newer")
    assert version.base_template.id == made.id
    found = service.list(search="name=tpl")
    assert [each.version.version_number for each in found] == [1, 2]
    vm = system.vms_service().add(vm_of(system, template=types.Template(name="tpl")))
    assert vm.template.id == second.id, "the newest version"


def test_a_template_is_changed(
    system: sdk.services.SystemService, made: types.Template
) -> None:
    service = system.templates_service().template_service(made.id)
    changed = service.update(types.Template(description="newer", memory=2 * 1024**3))
    assert (changed.description, changed.memory) == ("newer", 2 * 1024**3)


def test_blank_stays(system: sdk.services.SystemService) -> None:
    (blank,) = system.templates_service().list(search="name=Blank")
    assert blank.id == "00000000-0000-0000-0000-000000000000"
    with pytest.raises(sdk.Error, match="does not lie on a pool") as raised:
        system.templates_service().template_service(blank.id).remove()
    assert raised.value.code == 409
