"""VMs that are imported from an export storage domain, with the real qemu-img.

What lies there was laid down by hand, as oVirt leaves it, or by our own export; and
every step may be the agent's last. It is never changed.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.errors import Error
from node.model.ids import DiskId, JobId, StorageDomainId, TemplateId, VmId
from node.model.job import Job, JobState
from node.model.requests import DeleteVm, StartVm
from node.model.storage import DomainState
from node.model.unregistered import RegisterVm
from node.model.vm import Vm
from node.storage.formats.volume_meta import Format
from tests.contract import disks, ovirt_exported
from tests.contract.disks import code_of, qemu_io
from tests.contract.export_scene import EXPORT, Exports
from tests.contract.ovirt_exported import PATTERN
from tests.contract.vm_agent import DATA, ROOT
from tests.fakes.guard import Outcome
from tests.unit.node.storage.ovf import samples
from tests.unit.node.storage.pools.nodes import wait_until
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS

OVIRT_VM = VmId(samples.VM)
CLONE = VmId("5e5a0fb0-9999-4b8e-9c53-000000000001")
WEB = RegisterVm(OVIRT_VM, "came", may_lose_disks=True, may_lose_nics=True)


class Imports(Exports):
    """An export storage domain with one VM of oVirt's."""

    def bring(self, request: RegisterVm = WEB, number: int = 0) -> Job:
        asked = replace(
            request,
            to_storage_domain_id=self.home,
            job_id=JobId(f"30b00000-0000-4000-8000-{number:012}"),
        )
        return self.registrar.register(EXPORT, asked)

    def settle(self) -> None:
        """Wait until a node that was started again reads what is on its storage."""

        def reads() -> bool:
            try:
                self.node.volumes.find(VM_ID)
            except Error:
                return False
            return True

        wait_until(reads)
        for each in (self.home, EXPORT):
            self.node.wait_state(each, DomainState.ACTIVE)

    def found(self, vm_id: VmId) -> Vm | None:
        return self.node.volumes.find(vm_id)

    def leaves(self, vm: Vm) -> dict[DiskId, Path]:
        """Return what each disk of a VM is, which has no more than one volume."""
        opened = self.node.storage.volumes()
        found = {}
        for disk in vm.spec.disks:
            (layer,) = opened.open(disk).layers
            found[disk.disk_id] = Path(layer.path)
        return found

    def is_whole(self, vm_id: VmId = OVIRT_VM) -> bool:
        """Tell whether the VM is there, with its disks; else nothing must be."""
        vm = self.found(vm_id)
        images = self.leaf(ROOT).parents[1]
        left = {each.name for each in images.iterdir()} - {ROOT, DATA}
        if vm is None:
            assert {name for name in left if samples.DISK in name} == set()
            return False
        ((disk_id, leaf),) = self.leaves(vm).items()
        assert disk_id in left
        commands = [f"read -P {PATTERN} {at} 64k" for at in ("0", "1M")]
        qemu_io(leaf, Format.COW, *commands, "read -P 0 2M 1M")
        assert disks.run("qemu-img", "info", str(leaf)).count("backing file") == 0
        return True

    def there(self) -> dict[str, tuple[int, int, int] | None]:
        """Return what lies on the export storage domain, and when it was written."""
        files = (each for each in self.root.rglob("*") if each.is_file())
        kept = (each for each in files if "dom_md" not in each.parts)
        return {str(each): disks.identity(each) for each in kept}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Imports]:
    made = Imports(tmp_path)
    made.write(1)
    made.add_domain()
    yield made
    made.close()


def test_vm_of_ovirt_is_imported_and_starts(scene: Imports) -> None:
    ovirt_exported.lay_down(scene)
    before = scene.there()
    scene.done(scene.bring())
    assert scene.is_whole()
    vm = scene.found(OVIRT_VM)
    assert vm is not None
    assert (vm.home, vm.snapshots) == (scene.home, ())
    assert vm.spec.disks[0].disk_id == samples.DISK
    assert vm.spec.disks[0].size_bytes == 4 << 20
    assert scene.node.storage.storage_domain_check(scene.home).problems == ()
    scene.done(scene.vms.start(OVIRT_VM, StartVm()))
    assert scene.there() == before


def test_import_beside_its_twin_has_other_ids(scene: Imports) -> None:
    scene.done(scene.export())
    asked = RegisterVm(VM_ID, "twin", CLONE)
    scene.done(scene.bring(asked, 1))
    vm = scene.found(CLONE)
    assert vm is not None
    assert vm.spec.name == "twin"
    assert not {each.disk_id for each in vm.spec.disks} & {ROOT, DATA}
    for leaf in scene.leaves(vm).values():
        qemu_io(leaf, Format.COW, "read -P 1 64k 64k")
    scene.check(1)


def test_template_is_imported_as_one(scene: Imports) -> None:
    mark = "<TemplateType>TEMPLATE</TemplateType><TemplateId>"
    text = samples.DOCUMENT.replace("<TemplateId>", mark)
    ovirt_exported.lay_down(scene, text)
    scene.done(scene.bring())
    (template,) = scene.templates.list().templates
    assert template.template_id == TemplateId(OVIRT_VM)
    (disk,) = template.spec.disks
    assert (disk.disk_id, disk.storage_domain_id) == (samples.DISK, scene.home)


@pytest.mark.parametrize("state", ["lives", "deleted"])
def test_id_that_is_taken_is_refused(scene: Imports, state: str) -> None:
    scene.done(scene.export())
    if state == "deleted":
        scene.done(scene.vms.delete(VM_ID, DeleteVm()))
    home = StorageDomainId(str(scene.pool.master))
    request = RegisterVm(VM_ID, to_storage_domain_id=home)
    code = code_of(lambda: scene.registrar.register(EXPORT, request))
    assert code == "vm_is_here"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (None, "bad_import_target"),
        (EXPORT, "storage_domain_inactive"),
        (StorageDomainId(VM_ID), "storage_domain_inactive"),
    ],
    ids=["none", "itself", "unknown"],
)
def test_import_needs_a_place(
    scene: Imports, target: StorageDomainId | None, code: str
) -> None:
    ovirt_exported.lay_down(scene)
    request = replace(WEB, to_storage_domain_id=target)
    assert code_of(lambda: scene.registrar.register(EXPORT, request)) == code


def test_disk_that_lies_here_stays(scene: Imports) -> None:
    """An image of that id: a VM that is imported twice would share it."""
    text = samples.DOCUMENT.replace(samples.DISK, ROOT)
    scene.lay_document(OVIRT_VM, text)
    meta = ovirt_exported.meta(EXPORT, "RAW", "LEAF", IMAGE=ROOT)
    scene.lay_volume(ROOT, samples.LEAF, meta).write_bytes(bytes(4 << 20))
    assert code_of(scene.bring) == "disk_lies_here"
    scene.check(1)


@pytest.mark.parametrize(
    "damage", ["foreign-backing", "larger", "wrong-domain", "gone", "absurd"]
)
def test_hostile_image_is_not_imported(scene: Imports, damage: str) -> None:
    ovirt_exported.lay_down(scene)
    folder = scene.root / "images" / samples.DISK
    leaf, meta = folder / samples.LEAF, folder / f"{samples.LEAF}.meta"
    create = ("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b")
    if damage == "foreign-backing":
        disks.run(*create, "/etc/passwd", str(leaf), "4M")
    elif damage == "larger":
        disks.run(*create, samples.BASE, str(leaf), "8M")
    elif damage == "wrong-domain":
        meta.write_text(meta.read_text().replace(EXPORT, scene.home))
    elif damage == "gone":
        (folder / samples.BASE).unlink()
    else:
        size = meta.read_text().replace("SIZE=8192", f"SIZE={1 << 31}")
        meta.write_text(size.replace("TYPE=SPARSE", "TYPE=PREALLOCATED"))
    job = scene.end_of(scene.bring())
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert not scene.is_whole()
    assert scene.node.storage.storage_domain_check(scene.home).problems == ()


@pytest.mark.parametrize("end", ["cancelled", "full"])
def test_import_that_ends_early_leaves_nothing(scene: Imports, end: str) -> None:
    """In the midst of the first copy: it is cancelled, or there is no space left."""
    ovirt_exported.lay_down(scene)
    before, guard = scene.there(), scene.node.guard
    run, asked = guard.programs["qemu-img"], JobId(f"30b00000-0000-4000-8000-{0:012}")

    def convert(argv: tuple[str, ...]) -> Outcome | None:
        if argv[1] != "convert":
            return run(argv)
        if end == "full":
            return Outcome(1, "", "qemu-img: error: No space left on device")
        scene.node.jobs.cancel(asked)
        return run(argv)

    guard.programs["qemu-img"] = convert
    ended = scene.end_of(scene.bring())
    states = {"cancelled": JobState.CANCELLED, "full": JobState.FAILED}
    assert ended.state is states[end]
    assert not scene.is_whole()
    assert scene.there() == before
    assert scene.node.storage.storage_domain_check(scene.home).problems == ()
    guard.programs["qemu-img"] = run
    scene.done(scene.bring(number=1))
    assert scene.is_whole()


def test_every_step_may_be_the_last(scene: Imports) -> None:
    """The agent dies after each call of its job, and starts again."""
    ovirt_exported.lay_down(scene)
    points, before = 0, scene.there()
    for calls in range(400):
        scene.node.guard.calls_left = calls
        # Another id each time: one that was deleted does not come back.
        clone = VmId(f"5e5a0fb0-9999-4b8e-9c53-{calls:012}")
        job = scene.bring(replace(WEB, as_vm_id=clone, name=f"web-{calls}"), calls)
        died = scene.node.has_died(job.job_id)
        scene.restart()
        ended = scene.end_of(job)
        scene.settle()
        if not died:
            break
        points += 1
        is_whole = scene.is_whole(clone)
        assert is_whole is (ended.state is JobState.DONE), (calls, ended)
        scene.check(1)
        if is_whole:
            scene.done(scene.vms.delete(clone, DeleteVm()))
            # Its tombstone would be read by each that follows.
            shutil.rmtree(scene.leaf(ROOT).parents[2] / "master" / "vms" / clone)
    assert points > 20
    assert scene.is_whole(clone)
    assert scene.there() == before
