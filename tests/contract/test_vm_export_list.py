"""What lies on an export storage domain, as we and oVirt left it there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.model.ids import VmId
from node.model.unregistered import RegisterVm, Source
from tests.contract import disks, ovirt_exported
from tests.contract.disks import code_of
from tests.contract.export_scene import EXPORT, Exports
from tests.contract.vm_agent import DATA, ROOT
from tests.unit.node.storage.ovf import samples
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS

OVIRT_VM = VmId(samples.VM)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Exports]:
    made = Exports(tmp_path)
    made.add_domain()
    yield made
    made.close()


def test_empty_storage_domain_has_none(scene: Exports) -> None:
    found = scene.newcomers.lying(EXPORT)
    assert (found.vms, found.problems) == ((), ())


def test_what_was_exported_lies_there_beside_the_vm(scene: Exports) -> None:
    scene.done(scene.export())
    found = scene.newcomers.lying(EXPORT)
    assert found.problems == ()
    (vm,) = found.vms
    assert (vm.spec.vm_id, vm.spec.name) == (VM_ID, scene.vm.spec.name)
    assert (vm.source, vm.missing_disks) == (Source.EXPORT, ())
    assert [each.disk_id for each in vm.spec.disks] == [ROOT, DATA]
    assert [each.size_bytes for each in vm.spec.disks] == [4 << 20] * 2


def test_export_of_ovirt_is_read(scene: Exports) -> None:
    ovirt_exported.lay_down(scene)
    found = scene.newcomers.lying(EXPORT)
    assert found.problems == ()
    (vm,) = found.vms
    assert (vm.spec.vm_id, vm.spec.name) == (OVIRT_VM, "web")
    (disk,) = vm.spec.disks
    assert (disk.disk_id, disk.size_bytes) == (samples.DISK, 4 << 20)
    assert vm.missing_disks == (samples.LUN,)
    assert not vm.is_template


def test_template_of_ovirt_is_told_as_one(scene: Exports) -> None:
    mark = "<TemplateType>TEMPLATE</TemplateType><TemplateId>"
    text = samples.DOCUMENT.replace("<TemplateId>", mark)
    ovirt_exported.lay_down(scene, text)
    (found,) = scene.newcomers.lying(EXPORT).vms
    assert found.is_template


def test_image_that_is_not_there_is_a_missing_disk(scene: Exports) -> None:
    scene.lay_document(OVIRT_VM, samples.DOCUMENT)
    (vm,) = scene.newcomers.lying(EXPORT).vms
    assert vm.missing_disks == (samples.DISK, samples.LUN)
    assert vm.spec.disks == ()


@pytest.mark.parametrize(
    "text",
    ["", "<a>", samples.DOCUMENT.replace(samples.VM, VM_ID), "x" * (5 << 20)],
    ids=["empty", "no-ovf", "another-vm", "huge"],
)
def test_what_is_damaged_is_told_of_and_hides_nothing(
    scene: Exports, text: str
) -> None:
    scene.done(scene.export())
    scene.lay_document(OVIRT_VM, text)
    found = scene.newcomers.lying(EXPORT)
    assert [each.spec.vm_id for each in found.vms] == [VM_ID]
    (problem,) = found.problems
    assert problem.code == "unregistered_vm_damaged"
    assert problem.fields["name"] == OVIRT_VM


def test_what_has_no_document_or_no_id_is_passed_over(scene: Exports) -> None:
    folder = scene.root / "master" / "vms"
    (folder / OVIRT_VM).mkdir()
    (folder / OVIRT_VM / f"{OVIRT_VM}.ovf.new").write_text(samples.DOCUMENT)
    (folder / "lost+found").mkdir()
    (folder / VM_ID).write_text("a file")
    found = scene.newcomers.lying(EXPORT)
    assert (found.vms, found.problems) == ((), ())


def test_what_lies_there_cannot_be_registered_in_place(scene: Exports) -> None:
    """A VM that wrote to an export domain would have no lease to keep others off."""
    ovirt_exported.lay_down(scene)
    request = RegisterVm(OVIRT_VM, may_lose_disks=True, may_lose_nics=True)
    code = code_of(lambda: scene.registrar.register(EXPORT, request))
    assert code == "bad_import_target"
