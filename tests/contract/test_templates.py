"""Templates as their node does them: on a local pool, with the real qemu-img.

A VM with two disks is the original, as in `test_vm_snapshots`.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node import jobs, wire
from node.errors import Error
from node.model.feed import Kind
from node.model.ids import DiskId, JobId, TemplateId, VmId
from node.model.job import Job, JobState
from node.model.requests import CreateVm, DeleteVm
from node.model.storage import DiskDocument
from node.model.storage_requests import ActOnDisk
from node.model.templates import (
    ChangeTemplate,
    CloneVm,
    CreateTemplate,
    DeleteTemplate,
    Template,
)
from node.model.vm import Vm, VmSpec
from node.policy import made_of
from node.storage.disks.verbs import first_volume
from node.storage.formats.volume_meta import Format
from tests.contract import disks
from tests.contract.disks import code_of, qemu_io
from tests.contract.vm_agent import DATA, ROOT, S1
from tests.contract.vm_scene import Scene
from tests.unit.node.storage.pools.nodes import Node, wait_until
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS

T1, T2 = (TemplateId(f"7e400000-0000-4000-8000-00000000000{n}") for n in (1, 2))
THIN, FULL = (VmId(f"aaaa0000-0000-4000-8000-00000000000{n}") for n in (1, 2))


class Templates(Scene):
    """A node that makes templates of its VM."""

    def begin(self, node: Node) -> Mapping[str, jobs.Handler]:
        handlers = super().begin(node)
        kept = node.storage.templates()
        self.templates = self.vms.templates(kept, node.volumes, node.store)
        return {**handlers, **self.templates.job_handlers()}

    def make(self, template_id: TemplateId = T1, **fields: Any) -> Template:
        request = CreateTemplate(template_id, "debian", VM_ID, **fields)
        self.done(self.templates.create(request))
        return self.templates.show(template_id)

    def thin(self, template: Template) -> Vm:
        spec = made_of.spec(template, THIN, "thin", macs=())
        return self.vms.create(CreateVm(spec)).vm

    def full(self, template: Template) -> Job:
        spec = made_of.spec(template, FULL, "full", macs=(), is_clone=True)
        return self.templates.clone(CloneVm(spec))

    def path(self, spec: VmSpec, number: int = 0) -> Path:
        """Return what a guest of the VM would write to, or a template's file."""
        disk = spec.disks[number]
        if spec.vm_id in (VmId(T1), VmId(T2)):
            volume_id = first_volume(disk.disk_id)
            return self.leaf(ROOT).parents[1] / disk.disk_id / volume_id
        opened = self.node.storage.volumes().open(disk)
        return Path(opened.layers[0].path)

    def holds(self, spec: VmSpec, pattern: int, volume_format: Format) -> None:
        for number in (0, 1):
            command = f"read -P {pattern} 64k 64k"
            qemu_io(self.path(spec, number), volume_format, command)

    def disk(self, disk_id: DiskId) -> DiskDocument:
        return self.node.storage.disk_show(disk_id)

    def images(self) -> set[str]:
        home = self.leaf(ROOT).parents[1]
        return {each.name for each in home.iterdir()}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Templates]:
    made = Templates(tmp_path)
    made.write(1)
    yield made
    made.close()


def test_create_copies_all_disks_and_keeps_the_definition(scene: Templates) -> None:
    template = scene.make(description="as installed")
    assert (template.name, template.version) == ("debian", 1)
    assert template.spec.description == "as installed"
    assert template.home == scene.home
    assert {disk.disk_id for disk in template.spec.disks}.isdisjoint({ROOT, DATA})
    scene.write(2)  # the VM goes on; the template does not
    scene.holds(template.spec, 1, Format.COW)
    scene.check(1)


def test_create_is_one_template_when_asked_twice(scene: Templates) -> None:
    before = scene.make()
    assert scene.make() == before
    assert len(scene.templates.list().templates) == 1


def test_create_is_refused_while_the_vm_runs(scene: Templates) -> None:
    scene.start()
    request = CreateTemplate(T1, "debian", VM_ID)
    code = code_of(lambda: scene.templates.create(request))
    assert code == "template_vm_runs"


def test_create_from_a_snapshot_holds_what_was_then(scene: Templates) -> None:
    scene.take(S1)
    scene.write(2)
    scene.start()  # which does not matter
    template = scene.make(snapshot_id=S1)
    scene.holds(template.spec, 1, Format.COW)
    command = "read -P 0 128k 64k"
    qemu_io(scene.path(template.spec), Format.COW, command)


def test_a_template_is_no_vm(scene: Templates) -> None:
    scene.make()
    volumes = scene.node.storage.volumes()
    assert volumes.find(VmId(T1)) is None
    assert [v.spec.vm_id for p in volumes.definitions() for v in p.vms] == [VM_ID]


def test_a_template_is_told_to_the_fleet(scene: Templates) -> None:
    template = scene.make()
    (disk_id, _) = (disk.disk_id for disk in template.spec.disks)

    def told() -> Mapping[str, Any]:
        return {each.id: each.body for each in scene.node.store.list(Kind.TEMPLATE)}

    wait_until(lambda: T1 in told())
    kept = wire.from_json(Template, dict(told()[T1]))
    assert kept.mark is not None
    assert kept == replace(template, mark=kept.mark)
    wait_until(lambda: scene.disk(disk_id).template_id == T1)
    assert scene.disk(disk_id).vm_ids == ()
    scene.done(scene.templates.delete(T1, DeleteTemplate()))
    wait_until(lambda: T1 not in told())


def test_a_thin_clone_shares_the_disks_and_writes_to_its_own(
    scene: Templates,
) -> None:
    template = scene.make()
    vm = scene.thin(template)
    scene.holds(vm.spec, 1, Format.COW)
    qemu_io(scene.path(vm.spec), Format.COW, "write -P 9 64k 64k")
    scene.holds(template.spec, 1, Format.COW)
    assert vm.spec.template_id == T1


def test_delete_is_refused_and_names_who_needs_it(scene: Templates) -> None:
    template = scene.make()
    scene.thin(template)
    scene.make(T2, base_id=T1, version_name="newer")
    with pytest.raises(Error, match="VM thin") as caught:
        scene.templates.delete(T1, DeleteTemplate())
    assert caught.value.code == "template_used"
    assert "its version 2" in str(caught.value)
    assert scene.templates.show(T1) == template


def test_a_full_clone_needs_no_template(scene: Templates) -> None:
    template = scene.make()
    scene.done(scene.full(template))
    scene.done(scene.templates.delete(T1, DeleteTemplate()))
    assert scene.templates.list().templates == ()
    vm = scene.vms.show(FULL).vm
    scene.holds(vm.spec, 1, Format.COW)
    gone = {disk.disk_id for disk in template.spec.disks}
    left = {name for name in scene.images() if gone & {name[-36:]}}
    assert left == set()


def test_delete_goes_once_the_thin_clone_is_gone(scene: Templates) -> None:
    vm = scene.thin(scene.make())
    scene.done(scene.vms.delete(THIN, DeleteVm()))
    for job in scene.node.jobs.list():
        scene.end_of(job)
    assert vm.spec.disks[0].disk_id not in scene.images()
    scene.done(scene.templates.delete(T1, DeleteTemplate()))
    assert scene.images() == {ROOT, DATA}


@pytest.mark.parametrize("is_copy", [False, True], ids=["whole", "copy"])
def test_a_template_s_disk_cannot_be_deleted_alone(
    is_copy: bool, scene: Templates
) -> None:
    disk = scene.make().spec.disks[0]
    where = disk.storage_domain_id if is_copy else None
    request = ActOnDisk(storage_domain_id=where)
    code = code_of(lambda: scene.node.storage.disk_delete(disk.disk_id, request))
    assert code == "disk_named_by_vm"


def test_versions_have_numbers_and_the_name_of_their_base(scene: Templates) -> None:
    scene.make()
    second = scene.make(T2, base_id=T1, version_name="newer")
    assert (second.name, second.version, second.base_id) == ("debian", 2, T1)
    changed = scene.templates.change(T1, ChangeTemplate(name="trixie"))
    assert changed.name == "trixie"
    # One write: nothing is between the old name and the new one.
    assert scene.templates.show(T2) == replace(
        second, spec=replace(second.spec, name="trixie")
    )
    told = scene.templates.list().templates
    assert [(each.name, each.version) for each in told] == [
        ("trixie", 1),
        ("trixie", 2),
    ]


def test_a_name_is_that_of_one_template(scene: Templates) -> None:
    scene.make()
    request = CreateTemplate(T2, "debian", VM_ID)
    code = code_of(lambda: scene.templates.create(request))
    assert code == "template_name_taken"


def test_a_job_goes_on_after_a_restart_of_the_agent(scene: Templates) -> None:
    template = scene.make()
    spec = made_of.spec(template, FULL, "full", macs=(), is_clone=True)
    job_id = JobId(str(uuid.uuid4()))
    scene.templates.clone(CloneVm(spec, job_id))
    scene.restart()
    assert scene.node.jobs.get(job_id, 30).state is JobState.DONE
    scene.holds(scene.vms.show(FULL).vm.spec, 1, Format.COW)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"template_id": None}, "bad_vm", id="of-no-template"),
        pytest.param({"template_id": T2}, "template_unknown", id="of-another"),
    ],
)
def test_a_vm_is_refused_that_is_not_of_its_template(
    scene: Templates, change: dict[str, Any], code: str
) -> None:
    spec = made_of.spec(scene.make(), THIN, "thin", macs=())
    asked = CreateVm(replace(spec, **change))
    assert code_of(lambda: scene.vms.create(asked)) == code
