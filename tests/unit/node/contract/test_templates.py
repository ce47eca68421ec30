"""What a template is made of, and who needs it: tables."""

from dataclasses import replace
from typing import Any

import pytest

from node import wire
from node.contract import definitions, snapshots, templates
from node.contract.definitions import Placing
from node.contract.snapshots import Act, Change
from node.errors import Error
from node.model.ids import (
    DiskId,
    NicId,
    SnapshotId,
    StorageDomainId,
    TemplateId,
    VmId,
)
from node.model.templates import ChangeTemplate, CreateTemplate, Template
from node.model.vm import Disk, Nic, TemplateMark, Vm, VmSpec
from node.policy import made_of
from node.units import GiB

VM_ID, OTHER = (VmId(f"aaaa0000-0000-4000-8000-00000000000{n}") for n in (1, 2))
T1, T2, T3 = (TemplateId(f"7e400000-0000-4000-8000-00000000000{n}") for n in (1, 2, 3))
ROOT, SHARED, CD = (
    DiskId(f"d15c0000-0000-4000-8000-00000000000{n}") for n in (1, 2, 3)
)
SD, SD2 = (StorageDomainId(f"5d000000-0000-4000-8000-00000000000{n}") for n in (1, 2))
NIC = NicId("0c000000-0000-4000-8000-000000000001")
AT = "2026-11-22T08:00:00.000Z"
SPEC = VmSpec(
    VM_ID,
    "web",
    GiB,
    disks=(
        Disk(ROOT, "root", GiB, is_bootable=True, storage_domain_id=SD),
        Disk(SHARED, "shared", GiB, storage_domain_id=SD, is_shared=True),
        Disk(CD, "cd", GiB, storage_domain_id=SD, is_read_only=True),
    ),
    nics=(Nic(NIC, "nic1", "56:6f:00:00:00:01", "ovirtmgmt"),),
)
VM = Vm(SPEC, 4, AT)
ASKED = CreateTemplate(T1, "debian", VM_ID)


def defined(request: CreateTemplate = ASKED, *known: Vm) -> Vm:
    return templates.define(request, VM, map(templates.of, known), AT)


def code_of(call: Any) -> str:
    try:
        call()
    except Error as error:
        return error.code
    return ""


BASE = defined()
SECOND = defined(replace(ASKED, template_id=T2, base_id=T1, version_name="new"), BASE)


def test_define_takes_the_vm_s_own_disks_under_ids_that_follow() -> None:
    (disk,) = BASE.spec.disks
    assert disk.disk_id == templates.copy_id(T1, ROOT)
    assert (disk.storage_domain_id, disk.is_bootable) == (SD, True)
    assert defined() == BASE


def test_define_leaves_what_is_one_vm_s_alone() -> None:
    (nic,) = BASE.spec.nics
    assert (nic.mac, nic.network) == ("", "ovirtmgmt")
    assert nic.nic_id != NIC
    assert BASE.spec.vm_id == VmId(T1)
    assert BASE.generation == 1


def test_define_puts_all_disks_where_it_is_told() -> None:
    made = defined(replace(ASKED, storage_domain_id=SD2))
    assert [disk.storage_domain_id for disk in made.spec.disks] == [SD2]


def test_versions_count_on_under_one_name() -> None:
    third = defined(replace(ASKED, template_id=T3, base_id=T1, name="x"), BASE, SECOND)
    marks = [each.template for each in (BASE, SECOND, third)]
    assert marks == [
        TemplateMark(),
        TemplateMark(T1, 2, "new"),
        TemplateMark(T1, 3),
    ]
    assert third.spec.name == "debian"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({}, "template_name_taken", id="same-name"),
        pytest.param({"base_id": T3}, "template_unknown", id="no-such-base"),
        pytest.param({"base_id": T2}, "template_not_a_base", id="of-a-version"),
    ],
)
def test_define_refuses(change: dict[str, Any], code: str) -> None:
    asked = replace(ASKED, template_id=T3, **change)
    assert code_of(lambda: defined(asked, BASE, SECOND)) == code


def test_changed_is_the_same_if_nothing_is_asked() -> None:
    assert templates.changed(BASE, ChangeTemplate(), ()) is BASE


def test_changed_is_another_generation() -> None:
    asked = ChangeTemplate("ubuntu", "newer", "one", 2 * GiB)
    after = templates.changed(BASE, asked, ())
    assert after.generation == 2
    assert (after.spec.name, after.spec.memory_bytes) == ("ubuntu", 2 * GiB)
    assert templates.of(after).version_name == "one"


@pytest.mark.parametrize(
    ("has_base", "name"), [(True, "trixie"), (False, "debian")], ids=["base", "away"]
)
def test_named_gives_a_version_the_name_of_its_base(has_base: bool, name: str) -> None:
    base = templates.changed(BASE, ChangeTemplate("trixie"), ())
    vms = (SECOND, VM, *((base,) if has_base else ()))
    version, vm, *_ = templates.named(vms)
    assert version == replace(SECOND, spec=replace(SECOND.spec, name=name))
    assert vm is VM


def test_changed_refuses_a_name_of_another_and_of_a_version() -> None:
    known = [templates.of(replace(BASE, spec=replace(BASE.spec, name="x")))]
    rename = ChangeTemplate("x")
    assert code_of(lambda: templates.changed(BASE, rename, known)) == (
        "template_name_taken"
    )
    assert code_of(lambda: templates.changed(SECOND, rename, ())) == (
        "template_not_a_base"
    )


def made(**options: Any) -> VmSpec:
    return made_of.spec(
        templates.of(BASE), OTHER, "made", ("56:6f:00:00:00:09",), **options
    )


def test_a_vm_of_a_template_has_its_own_ids_and_addresses() -> None:
    spec = made()
    (disk,), (nic,) = spec.disks, spec.nics
    assert disk.from_disk_id == BASE.spec.disks[0].disk_id
    assert disk.disk_id not in (disk.from_disk_id, ROOT)
    assert (nic.mac, spec.template_id) == ("56:6f:00:00:00:09", T1)
    assert made() == spec, "asked twice, it is one VM"


def test_a_vm_of_a_template_lies_where_it_is_told() -> None:
    places = {BASE.spec.disks[0].disk_id: SD2}
    assert made(places=places).disks[0].storage_domain_id == SD2


@pytest.mark.parametrize(
    ("spec", "template", "code"),
    [
        pytest.param(SPEC, None, "", id="of-none"),
        pytest.param(made(), BASE, "", id="of-it"),
        pytest.param(made(), None, "template_unknown", id="gone"),
        pytest.param(made(), VM, "template_unknown", id="a-vm"),
        pytest.param(
            replace(made(), disks=(replace(made().disks[0], from_disk_id=CD),)),
            BASE,
            "vm_not_of_template",
            id="strange-disk",
        ),
    ],
)
def test_check_made_of(spec: VmSpec, template: Vm | None, code: str) -> None:
    assert code_of(lambda: templates.check_made_of(spec, template)) == code


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        pytest.param(made(is_clone=True), "", id="clone"),
        pytest.param(made(), "vm_not_of_template", id="thin"),
        pytest.param(
            replace(
                made(is_clone=True),
                disks=(replace(made().disks[0], size_bytes=2 * GiB),),
            ),
            "vm_not_of_template",
            id="larger",
        ),
        pytest.param(
            replace(made(is_clone=True), disks=SPEC.disks),
            "vm_not_of_template",
            id="disks-of-its-own",
        ),
    ],
)
def test_check_clone(spec: VmSpec, code: str) -> None:
    assert code_of(lambda: templates.check_clone(spec, BASE)) == code


THIN = Vm(made(), 1, AT)
FULL = Vm(made(is_clone=True), 1, AT)


@pytest.mark.parametrize(
    ("stored", "disks", "users"),
    [
        pytest.param([VM, BASE], {}, "", id="nobody"),
        pytest.param([THIN], {}, "VM made", id="thin"),
        pytest.param([FULL], {}, "", id="full"),
        pytest.param([SECOND], {}, "its version 2", id="version"),
        pytest.param([], {ROOT: "root"}, "disk root", id="floating"),
        pytest.param([THIN], {THIN.spec.disks[0].disk_id: "x"}, "VM made", id="once"),
        pytest.param([VM], {ROOT: "root"}, "VM web", id="disk-of-another"),
    ],
)
def test_check_unused_names_the_users(
    stored: list[Vm], disks: dict[str, str], users: str
) -> None:
    if not users:
        templates.check_unused(BASE, stored, disks)
        return
    with pytest.raises(templates.TemplateUsed) as caught:
        templates.check_unused(BASE, stored, disks)
    assert caught.value.fields["users"] == users


@pytest.mark.parametrize(
    "defined",
    [
        pytest.param(Placing(VmId(T1), SD, 0, BASE), id="comes"),
        pytest.param(Placing(VmId(T1), SD, 1), id="goes"),
        pytest.param(
            Change(Act.DROP, VM_ID, SnapshotId(str(T3))), id="change-of-snapshots"
        ),
    ],
)
def test_what_a_journal_defines_is_read_again(defined: Placing | Change) -> None:
    assert definitions.read(definitions.write(defined)) == defined


def test_a_definition_without_the_new_fields_is_read() -> None:
    """Files of before there were templates stay readable."""
    body = wire.to_json(VM)
    assert "template" not in body
    assert wire.from_json(Vm, body) == VM
    assert not snapshots.taken(VM)


def test_a_template_is_told_as_it_is_defined() -> None:
    told = templates.of(replace(SECOND, home=SD))
    assert isinstance(told, Template)
    assert (told.name, told.version, told.home) == ("debian", 2, SD)
