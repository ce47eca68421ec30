"""What was exported is removed: on a local pool, with the real qemu-img.

Every step may be the agent's last: then all is there, or nothing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.model.exports import RemoveExported
from node.model.ids import JobId, StorageDomainId, VmId
from node.model.job import Job, JobState
from tests.contract import disks
from tests.contract.disks import code_of
from tests.contract.export_scene import EXPORT, Exports
from tests.contract.vm_agent import DATA, ROOT
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS
OTHER = "22222222-0000-4000-8000-000000000002"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Exports]:
    made = Exports(tmp_path)
    made.write(1)
    made.add_domain()
    made.done(made.export())
    yield made
    made.close()


def remove(scene: Exports, number: int = 0, vm_id: str = VM_ID) -> Job:
    job_id = JobId(f"30c00000-0000-4000-8000-{number:012}")
    return scene.exporter.remove(EXPORT, RemoveExported(VmId(vm_id), job_id))


def left(scene: Exports) -> list[str]:
    """Return what lies on the export storage domain."""
    folders = (scene.root / "images", scene.root / "master" / "vms")
    return sorted(each.name for folder in folders for each in folder.iterdir())


def test_nothing_is_left_and_the_vm_is_as_it_was(scene: Exports) -> None:
    scene.done(remove(scene))
    assert left(scene) == []
    assert scene.newcomers.lying(EXPORT).vms == ()
    scene.check(1)
    scene.done(scene.export(1))
    assert scene.is_whole()


def test_disk_that_another_document_names_stays(scene: Exports) -> None:
    """Also one that cannot be read otherwise: a disk too many is better than none."""
    scene.lay_document(OTHER, f"not XML, but <{DATA}")
    scene.done(remove(scene))
    assert left(scene) == sorted([OTHER, DATA])
    scene.done(remove(scene, 1, OTHER))
    assert left(scene) == []


def test_folder_without_a_document_is_removed(scene: Exports) -> None:
    (scene.root / "master" / "vms" / OTHER).mkdir()
    scene.done(remove(scene, 1, OTHER))
    assert left(scene) == sorted([VM_ID, ROOT, DATA])


@pytest.mark.parametrize("state", ["gone", "hostile", "data"])
def test_removal_is_refused(scene: Exports, state: str) -> None:
    target = scene.home if state == "data" else EXPORT
    vm_id = {"gone": OTHER, "hostile": "../../images"}.get(state, VM_ID)
    asked = RemoveExported(VmId(vm_id))
    code = code_of(lambda: scene.exporter.remove(StorageDomainId(target), asked))
    is_data = state == "data"
    assert code == ("storage_domain_is_no_export" if is_data else "vm_not_exported")
    assert scene.is_whole()


def test_asked_twice_it_is_one_job(scene: Exports) -> None:
    scene.done(remove(scene))
    assert remove(scene).state is JobState.DONE


def test_every_step_may_be_the_last(
    scene: Exports, record_property: Callable[[str, object], None]
) -> None:
    """The agent dies after each call of its job, and starts again."""
    points = 0
    for calls in range(200):
        scene.node.guard.calls_left = calls
        job = remove(scene, calls)
        died = scene.node.has_died(job.job_id)
        scene.restart()
        ended = scene.end_of(job)
        if not died:
            break
        points += 1
        is_whole = bool(left(scene))
        assert is_whole is (ended.state is not JobState.DONE), (calls, ended)
        if not is_whole:
            scene.done(scene.export(1000 + calls))
        assert scene.is_whole()
    record_property("points", points)
    assert points > 10
    assert left(scene) == []
