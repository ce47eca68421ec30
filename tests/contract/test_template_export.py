"""Templates that are exported: on a local pool, with the real qemu-img."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from node.contract import templates
from node.model.exports import ExportTemplate, RemoveExported
from node.model.ids import JobId, StorageDomainId, TemplateId, VmId
from node.model.job import Job, JobState
from node.model.templates import CreateTemplate, DeleteTemplate
from node.model.unregistered import RegisterVm
from node.storage.formats.volume_meta import Format
from tests.contract import disks
from tests.contract.disks import code_of, qemu_io
from tests.contract.export_scene import EXPORT, Exports
from tests.contract.vm_agent import DATA, ROOT
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS

TEMPLATE = TemplateId("7e400000-0000-4000-8000-0000000000e1")
IMPORTED = VmId("7e400000-0000-4000-8000-0000000000e2")
DISKS = tuple(templates.copy_id(TEMPLATE, each) for each in (ROOT, DATA))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Exports]:
    made = Exports(tmp_path)
    made.write(1)
    made.add_domain()
    made.done(made.templates.create(CreateTemplate(TEMPLATE, "golden", VM_ID)))
    yield made
    made.close()


def _export(scene: Exports, number: int = 0) -> Job:
    job_id = JobId(f"30d00000-0000-4000-8000-{number:012}")
    return scene.exporter.export_template(TEMPLATE, ExportTemplate(EXPORT, job_id))


def _is_whole(scene: Exports) -> bool:
    """Tell whether all is there as it should be; else nothing must be."""
    left = {each.name for each in (scene.root / "images").iterdir()}
    if not scene.document(TEMPLATE).exists():
        assert left == set()
        assert list((scene.root / "master" / "vms").iterdir()) == []
        return False
    assert left == set(DISKS)
    for disk_id in DISKS:
        qemu_io(scene.image(disk_id), Format.COW, "read -P 1 64k 64k")
    return True


def test_template_lies_there_as_ovirt_reads_it(scene: Exports) -> None:
    scene.done(_export(scene))
    assert _is_whole(scene)
    for disk_id in DISKS:
        volume = scene.image(disk_id)
        lines = volume.with_name(f"{volume.name}.meta").read_text().splitlines()
        told = dict(line.split("=", 1) for line in lines[:-1])
        assert (told["VOLTYPE"], told["LEGALITY"]) == ("SHARED", "LEGAL")
        assert (told["SIZE"], told["IMAGE"]) == ("8192", disk_id)
    text = scene.document(TEMPLATE).read_text()
    assert "<TemplateType>" in text
    assert "<Name>golden</Name>" in text


def test_template_is_listed_imported_and_removed(scene: Exports) -> None:
    scene.done(_export(scene))
    (lying,) = scene.newcomers.lying(EXPORT).vms
    assert (lying.is_template, lying.missing_disks) == (True, ())
    asked = RegisterVm(
        VmId(TEMPLATE), "again", IMPORTED, to_storage_domain_id=scene.home
    )
    scene.done(scene.registrar.register(EXPORT, asked))
    names = {each.name for each in scene.templates.list().templates}
    assert names == {"golden", "again"}
    scene.done(scene.exporter.remove(EXPORT, RemoveExported(VmId(TEMPLATE))))
    assert not _is_whole(scene)


@pytest.mark.parametrize("state", ["twice", "data", "deleted", "vm"])
def test_export_is_refused(scene: Exports, state: str) -> None:
    target, template_id = EXPORT, TEMPLATE
    if state == "twice":
        scene.done(_export(scene))
    elif state == "deleted":
        scene.done(scene.templates.delete(TEMPLATE, DeleteTemplate()))
    elif state == "vm":
        template_id = TemplateId(VM_ID)
    else:
        target = StorageDomainId(scene.home)
    request = ExportTemplate(target)
    code = code_of(lambda: scene.exporter.export_template(template_id, request))
    assert (
        code
        == {
            "twice": "vm_exported_before",
            "data": "storage_domain_is_no_export",
            "deleted": "template_unknown",
            "vm": "template_unknown",
        }[state]
    )


def test_every_step_may_be_the_last(scene: Exports) -> None:
    """The agent dies after each call of its job, and starts again."""
    points = 0
    for calls in range(400):
        scene.node.guard.calls_left = calls
        job = _export(scene, calls)
        died = scene.node.has_died(job.job_id)
        scene.restart()
        ended = scene.end_of(job)
        if not died:
            break
        points += 1
        is_whole = _is_whole(scene)
        assert is_whole is (ended.state is JobState.DONE), (calls, ended)
        if is_whole:
            removed = RemoveExported(VmId(TEMPLATE))
            scene.done(scene.exporter.remove(EXPORT, removed))
    assert points > 15
    assert _is_whole(scene)
