"""VMs that are exported: on a local pool, with the real qemu-img.

What lies there is checked against what oVirt's own hosts read: files and keys written
down by hand, and qemu-img; and every step may be the agent's last.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from node.model.exports import ExportVm
from node.model.ids import StorageDomainId
from node.model.job import JobState
from node.storage.disks.eyes import PoolEyes
from node.storage.formats import journal
from node.storage.formats.volume_meta import Format
from node.storage.operations import plan
from node.units import MiB
from tests.contract import disks
from tests.contract.disks import code_of, qemu_io
from tests.contract.export_scene import EXPORT, Exports
from tests.contract.vm_agent import DATA, ROOT, S1
from tests.unit.node.vm.examples import VM_ID

pytestmark = disks.NEED_QEMU_UTILS


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Exports]:
    made = Exports(tmp_path)
    made.write(1)
    made.add_domain()
    yield made
    made.close()


def test_export_lies_there_as_ovirt_reads_it(scene: Exports) -> None:
    scene.done(scene.export())
    assert scene.is_whole()
    image = scene.image(ROOT)
    names = sorted(each.name for each in image.parent.iterdir())
    assert names == [image.name, f"{image.name}.meta"]
    lines = image.with_name(f"{image.name}.meta").read_text().splitlines()
    assert lines[-1] == "EOF"
    told = dict(line.split("=", 1) for line in lines[:-1])
    assert told["SIZE"] == "8192"  # 4 MiB in blocks of 512 bytes
    assert "CAP" not in told
    assert (told["DOMAIN"], told["IMAGE"]) == (EXPORT, ROOT)
    assert (told["FORMAT"], told["VOLTYPE"]) == ("COW", "LEAF")
    assert told["LEGALITY"] == "LEGAL"
    root = etree.fromstring(scene.described.read_bytes())
    files = {
        value
        for each in root.iter("File")
        for key, value in each.attrib.items()
        if str(key).endswith("href")
    }
    assert files == {f"{e}/{scene.image(e).name}" for e in (ROOT, DATA)}
    assert root.findtext(".//Content/Name") == scene.vm.spec.name


def test_export_is_the_state_of_now_without_snapshots(scene: Exports) -> None:
    scene.take(S1)
    scene.write(2)
    scene.done(scene.export())
    for pattern in (1, 2):
        command = f"read -P {pattern} {pattern * 64}k 64k"
        qemu_io(scene.image(DATA), Format.COW, command)
    assert b"SnapshotsSection" in scene.described.read_bytes()
    assert S1.encode() not in scene.described.read_bytes()
    scene.check(2)  # the VM is as it was


def test_disks_of_the_pool_are_none_the_more(scene: Exports) -> None:
    scene.done(scene.export())
    found = scene.node.storage.disk_show(ROOT)
    assert found.storage_domain_ids == (scene.home,)
    scene.start()


@pytest.mark.parametrize("state", ["runs", "twice", "data", "unknown"])
def test_export_is_refused(scene: Exports, state: str) -> None:
    target = EXPORT
    if state == "runs":
        scene.start()
    elif state == "twice":
        scene.done(scene.export())
    else:
        target = scene.home if state == "data" else StorageDomainId(VM_ID)
    code = code_of(lambda: scene.exporter.export(VM_ID, ExportVm(target)))
    assert (
        code
        == {
            "runs": "template_vm_runs",
            "twice": "vm_exported_before",
            "data": "storage_domain_is_no_export",
            "unknown": "storage_domain_is_no_export",
        }[state]
    )


def test_disk_that_lies_there_stays(scene: Exports) -> None:
    """Somebody else's, of an id that is ours: nothing is overwritten."""
    scene.done(scene.export())
    scene.described.unlink()
    scene.described.parent.rmdir()
    before = scene.image(ROOT).stat()
    job = scene.end_of(scene.export(1))
    assert job.error is not None
    assert job.error.code == "disk_exported"
    after = scene.image(ROOT).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    scene.check(1)


def test_missing_image_refuses_all(scene: Exports) -> None:
    scene.leaf(DATA).unlink()
    job = scene.end_of(scene.export())
    assert job.state is JobState.FAILED
    assert not scene.is_whole()


def test_every_step_may_be_the_last(scene: Exports) -> None:
    """The agent dies after each call of its job, and starts again."""
    points, home = 0, scene.leaf(ROOT).parents[2]
    journals = home / "dom_md" / "skerry" / "journals"
    for calls in range(400):
        scene.node.guard.calls_left = calls
        job = scene.export(calls)
        died = scene.node.has_died(job.job_id)
        _check_journals(journals)
        scene.restart()
        ended = scene.end_of(job)
        if not died:
            break
        points += 1
        is_whole = scene.is_whole()
        assert is_whole is (ended.state is JobState.DONE), (calls, ended)
        scene.check(1)
        if is_whole:
            _clear(scene)
    assert points > 20
    assert scene.is_whole()


def test_what_was_exported_before_is_replaced(scene: Exports) -> None:
    scene.done(scene.export(is_replacing=True))  # there is nothing yet
    before = scene.described.read_bytes()
    scene.write(2)
    scene.done(scene.export(1, is_replacing=True))
    assert scene.is_whole()
    assert scene.described.read_bytes() != before
    assert _holds(scene, 2)


def test_what_cannot_be_replaced_stays(
    scene: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that another document names as well, and what has no place."""
    scene.done(scene.export())
    before = scene.described.read_bytes()
    scene.lay_document(DATA, f"<a>{ROOT}</a>")
    job = scene.end_of(scene.export(1, is_replacing=True))
    assert job.error is not None
    assert job.error.code == "disk_exported"
    scene.document(DATA).unlink()
    scene.document(DATA).parent.rmdir()
    monkeypatch.setattr(PoolEyes, "free_bytes", lambda *_: -5 * MiB)
    job = scene.end_of(scene.export(2, is_replacing=True))
    assert job.error is not None
    assert job.error.code == "storage_domain_lacks_space"
    assert scene.described.read_bytes() == before
    assert scene.is_whole()


def test_every_step_of_a_replacement_may_be_the_last(scene: Exports) -> None:
    """An export is there at the end, the old or the new one, and never half of each."""
    scene.done(scene.export(999))
    scene.write(2)
    done = points = 0
    for calls in range(600):
        scene.node.guard.calls_left = calls
        job = scene.export(calls, is_replacing=True)
        died = scene.node.has_died(job.job_id)
        scene.restart()
        ended = scene.end_of(job)
        if not died:
            break
        points += 1
        assert scene.is_whole(), (calls, ended)
        is_done = ended.state is JobState.DONE
        assert _holds(scene, 2) is (is_done or done > 0), (calls, ended)
        done += is_done
    assert points > 40
    assert done > 20


def _holds(scene: Exports, pattern: int) -> bool:
    """Tell whether both disks that lie there have what was written at that time."""
    command = f"read -P {pattern} {pattern * 64}k 64k"
    for disk_id in (ROOT, DATA):
        try:
            qemu_io(scene.image(disk_id), Format.COW, command)
        except (AssertionError, subprocess.CalledProcessError):
            return False
    return True


def _check_journals(folder: Path) -> None:
    """Check that no other node than the manager may write what is exported."""
    for path in folder.iterdir():
        if journal.read_name(path.name) is None:
            continue
        for action in journal.parse(path.read_bytes()).plan.actions():
            assert not plan.may_be_assigned(action), action


def _clear(scene: Exports) -> None:
    for disk_id in (ROOT, DATA):
        for each in (scene.root / "images" / disk_id).iterdir():
            each.unlink()
        (scene.root / "images" / disk_id).rmdir()
    scene.described.unlink()
    scene.described.parent.rmdir()
