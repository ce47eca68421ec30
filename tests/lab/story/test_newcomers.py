"""Storage domains change hands with their VMs: from a pool to another, from oVirt.

Two hosts with a pool each, real sanlock six times as fast, and a real guest. What
oVirt leaves behind is laid down by hand.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, command, waiting
from tests.lab.story.test_pool_vms import (
    IMAGE,
    MOUNT,
    START_S,
    Node,
    Refused,
)
from tests.unit.node.storage.ovf import ovirt_domain, samples

pytestmark = pytest.mark.lab

HOSTS = ("h1", "h2")
SYSTEM_BYTES = 64 << 20
MEMORY_MIB = 128


@dataclass(slots=True)
class Place:
    """A storage domain on the shared folder."""

    name: str
    sd: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def connection(self) -> dict[str, str]:
        return {"kind": "posixfs", "path": f"{MOUNT}/{self.name}"}

    @property
    def path(self) -> str:
        return f"/storage-domains/{self.sd}"


@dataclass(slots=True)
class Scene:
    lab: Lab
    masters: dict[str, Place] = field(default_factory=dict)  # of each host's pool
    pools: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Node:
        return Node(self.lab.member(name))

    def make_pool(self, host: str) -> None:
        """Make a pool of one storage domain that this host alone is in."""
        master = self.make(host, Place(f"master-{host}"))
        pool_id = str(uuid.uuid4())
        body = {"pool_id": pool_id, "name": f"of-{host}", "master": master.sd}
        self[host].do("/pools", body)
        self.masters[host], self.pools[host] = master, pool_id

    def make(self, host: str, place: Place, domain_class: str = "data") -> Place:
        folder = place.connection["path"]
        words = ["install", "-d", "-o", "36", "-g", "36", "-m", "0770", folder]
        assert self.lab.member(host).exec(words).returncode == 0
        body = {
            "storage_domain_id": place.sd,
            "name": place.name,
            "connection": place.connection,
            "domain_class": domain_class,
        }
        self[host].do("/storage-domains", body)
        return place

    def attach(self, host: str, place: Place) -> None:
        """Attach a storage domain to the pool of a host, and activate it."""
        self[host].do(f"{place.path}/attach", {"pool_id": self.pools[host]})
        self[host].do(f"{place.path}/activate")

    def take(self, host: str, place: Place) -> None:
        """Import a storage domain into the pool of a host."""
        body = {
            "connection": place.connection,
            "storage_domain_id": place.sd,
            "pool_id": self.pools[host],
        }
        self[host].do("/storage-domains/import", body)

    def let_go(self, host: str, place: Place) -> None:
        self[host].do(f"{place.path}/maintain")
        self[host].do(f"{place.path}/detach")

    def waits(self, host: str, place: Place) -> list[Any]:
        found = self[host].call("GET", f"{place.path}/unregistered")
        assert found.get("problems", []) == []
        return list(found.get("vms", []))

    def boot(self, host: str, vm_id: str) -> None:
        """Start a VM, and let its guest do something; stop it then."""
        self[host].do(f"/vms/{vm_id}/start")
        self[host].guest(vm_id, "sync")
        self[host].do(f"/vms/{vm_id}/stop", {"manner": "force"})

    def root(self, place: Place) -> Path:
        """Return where a storage domain is on this machine."""
        return self.lab.plan.shared / Path(MOUNT).name / place.name / place.sd


@pytest.fixture
def scene(lab: Lab) -> Iterator[Scene]:
    made = Scene(lab)
    lab.member("h1").exec(
        ["install", "-d", "-o", "36", "-g", "36", "-m", "0770", MOUNT]
    )
    try:
        # No aggregator shall hear of the pools: it would let others join them.
        lab.member("a1").stop_service("aggregator")
        for name in HOSTS:
            ready = made[name].answers
            waiting.until(f"the agent of {name}", ready, timeout_s=START_S)
            made.make_pool(name)
        yield made
    finally:
        lab.forget_storage()
        lab.restore()
        lab.member("h1").exec(["rm", "-rf", MOUNT])


def vms_of(node: Node) -> set[str]:
    """Return the VMs that a node knows."""
    known = node.call("GET", "/vms").get("vms", [])
    return {each["vm"]["spec"]["vm_id"] for each in known}


def make_vm(scene: Scene, place: Place) -> str:
    """Make a VM on a storage domain of h1, with the guest's system."""
    vm_id, disk_id = str(uuid.uuid4()), str(uuid.uuid4())
    disk = {
        "disk_id": disk_id,
        "name": "system",
        "size_bytes": SYSTEM_BYTES,
        "storage_domain_id": place.sd,
        "disk_format": "raw",
        "is_bootable": True,
    }
    spec = {
        "vm_id": vm_id,
        "name": "traveller",
        "memory_bytes": MEMORY_MIB << 20,
        "pool_id": scene.pools["h1"],
        "disks": [disk],
    }
    scene["h1"].call("POST", "/vms", {"spec": spec})
    folder = f"{place.connection['path']}/{place.sd}/images/{disk_id}"
    member = scene.lab.member("h1")
    (name,) = [e for e in member.exec(["ls", folder]).stdout.split() if "." not in e]
    argv = ["qemu-img", "convert", "-n", "-O", "raw", IMAGE, f"{folder}/{name}"]
    assert member.exec(argv, timeout_s=60.0).returncode == 0
    return vm_id


def test_vm_goes_with_its_storage_domain_to_another_pool(scene: Scene) -> None:
    h1, h2 = scene["h1"], scene["h2"]
    place = scene.make("h1", Place("travelling"))
    scene.attach("h1", place)
    vm_id = make_vm(scene, place)
    scene.boot("h1", vm_id)
    scene.let_go("h1", place)
    waiting.until("h1 without the VM", lambda: vm_id not in vms_of(h1))

    scene.take("h2", place)
    (waiting_vm,) = scene.waits("h2", place)
    assert waiting_vm["spec"]["name"] == "traveller"
    assert waiting_vm["source"] == "definition"
    assert vm_id not in vms_of(h2)
    h2.do(f"{place.path}/register-vm", {"vm_id": vm_id})
    assert scene.waits("h2", place) == []
    scene.boot("h2", vm_id)

    # The same by what is written for oVirt alone.
    scene.let_go("h2", place)
    (scene.root(place) / "master" / "vms" / vm_id / "definition").unlink()
    scene.take("h2", place)
    (waiting_vm,) = scene.waits("h2", place)
    assert (waiting_vm["source"], waiting_vm.get("may_run", False)) == (
        "ovf_store",
        False,
    )
    h2.do(f"{place.path}/register-vm", {"vm_id": vm_id, "name": "again"})
    scene.boot("h2", vm_id)
    checked = h2.call("GET", f"{place.path}/check")
    assert checked.get("problems", []) == []


def test_exported_vm_comes_to_another_pool_and_is_removed(scene: Scene) -> None:
    h1, h2 = scene["h1"], scene["h2"]
    home = scene.make("h1", Place("home"))
    attic = scene.make("h1", Place("attic"), "export")
    for place in (home, attic):
        scene.attach("h1", place)
    vm_id, copy_id = make_vm(scene, home), str(uuid.uuid4())
    h1.do(f"/vms/{vm_id}/export", {"storage_domain_id": attic.sd})
    scene.boot("h1", vm_id)
    scene.let_go("h1", attic)

    scene.take("h2", attic)
    (found,) = scene.waits("h2", attic)
    assert (found["spec"]["name"], found["source"]) == ("traveller", "export")
    target = scene.masters["h2"].sd
    asked = {"vm_id": vm_id, "as_vm_id": copy_id, "to_storage_domain_id": target}
    h2.do(f"{attic.path}/register-vm", asked)
    scene.boot("h2", copy_id)
    h2.do(f"{attic.path}/remove-exported", {"vm_id": vm_id})
    assert scene.waits("h2", attic) == []
    root = scene.root(attic)
    folders = (root / "images", root / "master" / "vms")
    assert [each for folder in folders for each in folder.iterdir()] == []
    scene.boot("h2", copy_id)


def lay_down(scene: Scene, place: Place) -> None:
    """Put a VM of oVirt with a snapshot there, with the guest's system."""
    root = scene.root(place)
    folder = root / "images" / samples.DISK
    folder.mkdir()
    base, leaf = folder / samples.BASE, folder / samples.LEAF
    inside = f"{place.connection['path']}/{place.sd}/images/{samples.DISK}"
    argv = ["qemu-img", "convert", "-O", "raw", IMAGE, f"{inside}/{samples.BASE}"]
    assert scene.lab.member("h2").exec(argv, timeout_s=60.0).returncode == 0
    os.truncate(base, SYSTEM_BYTES)
    words = ("-f", "qcow2", "-F", "raw", "-b", base.name, str(leaf))
    command.check(["qemu-img", "create", "-q", *words, str(SYSTEM_BYTES)])
    size = {"CAP": str(SYSTEM_BYTES), "DISKTYPE": "DATA"}
    label = '{"DiskAlias":"web root","DiskDescription":""}'
    for path, others in (
        (base, {"VOLTYPE": "INTERNAL"}),
        (leaf, {"FORMAT": "COW", "PUUID": samples.BASE}),
    ):
        text = ovirt_domain.meta(place.sd, samples.DISK, label, **size, **others)
        Path(f"{path}.meta").write_text(text)
        Path(f"{path}.lease").touch()
    files = {
        "info.json": ovirt_domain.info("Fri Mar 01 00:00:00 UTC 2024"),
        f"{samples.VM}.ovf": document(place).encode(),
        "metadata.json": b'{"VM Status":{}}',
    }
    ovirt_domain.put_store(root, 0, ovirt_domain.tar(files))
    ovirt_domain.put_store(root, 1, b"", is_updated=False)
    for each in (root / "images").rglob("*"):
        shutil.chown(each, 36, 36)
        each.chmod(0o770 if each.is_dir() else 0o660)


def document(place: Place) -> str:
    """Return the sample, as small as the guest is."""
    return (
        samples.DOCUMENT.replace(samples.STORAGE_DOMAIN, place.sd)
        .replace("ovirtmgmt", "prod")
        .replace("Quantity>2048<", f"Quantity>{MEMORY_MIB}<")
        .replace("<BiosType>4<", "<BiosType>1<")
        .replace("<rasd:num_of_sockets>2<", "<rasd:num_of_sockets>1<")
        .replace("<rasd:cpu_per_socket>2<", "<rasd:cpu_per_socket>1<")
    )


def test_storage_domain_of_ovirt_comes_with_its_vm(scene: Scene) -> None:
    h2 = scene["h2"]
    place = scene.make("h2", Place("of-ovirt"))
    lay_down(scene, place)
    scene.take("h2", place)
    (found,) = scene.waits("h2", place)
    assert (found["spec"]["name"], found["source"]) == ("web", "ovf_store")
    assert (found["generation"], found["snapshots"]) == (17, 1)
    assert found["missing_disks"] == [samples.LUN]
    path, body = f"{place.path}/register-vm", {"vm_id": samples.VM}
    with pytest.raises(Refused, match="vm_disks_missing"):
        h2.do(path, body)
    with pytest.raises(Refused, match="vm_network_missing"):
        h2.do(path, {**body, "may_lose_disks": True})
    h2.do(path, {**body, "may_lose_disks": True, "may_lose_nics": True})
    scene.boot("h2", samples.VM)
    (snapshot,) = h2.call("GET", f"/vms/{samples.VM}/snapshots")["snapshots"]
    assert snapshot["description"] == "before"
    assert h2.call("GET", f"{place.path}/check").get("problems", []) == []
    # Its own OVF_STOREs are filled, in turn, from now on.
    h2.do(f"{place.path}/write-ovf")
    (label,) = [
        text
        for number in range(2)
        for text in [store_meta(scene, place, number)]
        if '"Updated":true' in text and "2024" not in text.partition("Storage")[0]
    ]
    assert "OVF_STORE" in label


def store_meta(scene: Scene, place: Place, number: int) -> str:
    folder = scene.root(place) / "images" / ovirt_domain.STORES[number]
    (meta,) = folder.glob("*.meta")
    return meta.read_text()
