"""Write a VM or template as an oVirt OVF document.

Pure. A document that was read is changed in place: sections, elements and
attributes that are not known here stay. A new one starts from a skeleton that
oVirt's reader finds complete. Source: oVirt's OvfOvirtWriter and OvfReader.
"""

import base64
import uuid
from collections.abc import Callable, Iterable
from typing import Final

from lxml import etree

from node.model.storage import Allocation, DiskFormat
from node.model.vm import CpuMode
from node.storage.ovf import properties, reading, xml
from node.storage.ovf.document import NOTHING, OvfDisk, OvfNic, OvfSnapshot, OvfVm
from node.storage.ovf.xml import RASD, Element
from node.units import GiB, MiB

_FORMATS: Final = {
    DiskFormat.RAW: ("RAW", "http://www.vmware.com/specifications/vmdk.html#sparse"),
    DiskFormat.QCOW2: (
        "COW",
        "http://www.gnome.org/~markmc/qcow-image-format.html",
    ),
}
_ALLOCATIONS: Final = {
    Allocation.THIN: "Sparse",
    Allocation.PREALLOCATED: "Preallocated",
}

# What oVirt's reader needs or misses, with oVirt's defaults. Engine 4.4 is the
# first whose BiosType is numbered as here, and reads format V5.
_SKELETON: Final = f"""\
<ovf:Envelope xmlns:ovf="{xml.OVF}" xmlns:rasd="{xml.RASD}" xmlns:vssd="{xml.VSSD}"
 xmlns:xsi="{xml.XSI}" ovf:version="4.4.0.0">
<References/>
<Section xsi:type="ovf:NetworkSection_Type"><Info>List of networks</Info></Section>
<Section xsi:type="ovf:DiskSection_Type"><Info>List of Virtual Disks</Info></Section>
<Content ovf:id="out" xsi:type="ovf:VirtualSystem_Type">
<Name/><Description/><Comment/><CreationDate/><ExportDate/>
<DeleteProtected>false</DeleteProtected>
<SsoMethod>guest_agent</SsoMethod>
<IsSmartcardEnabled>false</IsSmartcardEnabled>
<TimeZone>Etc/GMT</TimeZone>
<default_boot_sequence>0</default_boot_sequence>
<Generation>1</Generation>
<ClusterCompatibilityVersion>4.4</ClusterCompatibilityVersion>
<VmType>1</VmType>
<MinAllocatedMem>0</MinAllocatedMem>
<IsStateless>false</IsStateless>
<IsRunAndPause>false</IsRunAndPause>
<AutoStartup>false</AutoStartup>
<Priority>1</Priority>
<IsBootMenuEnabled>false</IsBootMenuEnabled>
<IsSpiceFileTransferEnabled>true</IsSpiceFileTransferEnabled>
<IsSpiceCopyPasteEnabled>true</IsSpiceCopyPasteEnabled>
<AllowConsoleReconnect>true</AllowConsoleReconnect>
<ConsoleDisconnectAction>LOCK_SCREEN</ConsoleDisconnectAction>
<CustomEmulatedMachine/><BiosType>2</BiosType><CustomCpuName/>
<PredefinedProperties/><UserDefinedProperties/>
<MaxMemorySizeMb>0</MaxMemorySizeMb>
<TemplateId>{NOTHING}</TemplateId><TemplateName>Blank</TemplateName>
<IsInitilized>true</IsInitilized>
<Origin>3</Origin>
<DefaultDisplayType>2</DefaultDisplayType>
<TrustedService>false</TrustedService>
<UseHostCpu>false</UseHostCpu>
<UseLatestVersion>false</UseLatestVersion>
<Section ovf:id="" ovf:required="false" xsi:type="ovf:OperatingSystemSection_Type">
<Info>Guest Operating System</Info><Description>Unassigned</Description></Section>
<Section xsi:type="ovf:VirtualHardwareSection_Type"><Info/>
<System><vssd:VirtualSystemType>ENGINE 4.4.0.0</vssd:VirtualSystemType></System>
<Item><rasd:Caption/><rasd:Description>Number of virtual CPU</rasd:Description>
<rasd:InstanceId>1</rasd:InstanceId><rasd:ResourceType>3</rasd:ResourceType></Item>
<Item><rasd:Caption/><rasd:Description>Memory Size</rasd:Description>
<rasd:InstanceId>2</rasd:InstanceId><rasd:ResourceType>4</rasd:ResourceType>
<rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits></Item>
<Item><rasd:Caption>USB Controller</rasd:Caption>
<rasd:InstanceId>3</rasd:InstanceId><rasd:ResourceType>23</rasd:ResourceType>
<rasd:UsbPolicy>DISABLED</rasd:UsbPolicy></Item>
<Item><rasd:Caption>Graphical Controller</rasd:Caption>
<rasd:InstanceId/><rasd:ResourceType>20</rasd:ResourceType>
<rasd:VirtualQuantity>1</rasd:VirtualQuantity>
<Type>video</Type><Device>vga</Device></Item>
<Item><rasd:Caption>Graphical Framebuffer</rasd:Caption>
<rasd:InstanceId/><rasd:ResourceType>26</rasd:ResourceType>
<Type>graphics</Type><Device>vnc</Device></Item>
</Section>
</Content>
</ovf:Envelope>
"""


def write(vm: OvfVm, at: str) -> bytes:
    """Return the document of a VM; `at` is now, which oVirt calls its export."""
    root = xml.parse(vm.original) if vm.original else _new(vm)
    content = reading.content_of(root)
    hardware = reading.hardware_of(content)
    _write_general(root, content, vm, at)
    _write_processor_and_memory(content, hardware, vm)
    _write_disks(root, hardware, vm)
    _write_nics(root, hardware, vm)
    _write_snapshots(content, vm)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _new(vm: OvfVm) -> Element:
    blank = etree.XMLParser(remove_blank_text=True)
    root = etree.fromstring(_SKELETON.encode(), blank)
    for each in reading.hardware_of(reading.content_of(root)):
        if xml.child(each, "InstanceId") is not None and not reading.instance_id(each):
            # Devices that have no id of ours get one that is always the same.
            kind = xml.text(each, "Type")
            made = str(uuid.uuid5(uuid.UUID(vm.vm_id), kind))
            xml.set_text(each, "InstanceId", made, RASD)
    return root


def _write_general(root: Element, content: Element, vm: OvfVm, at: str) -> None:
    system = xml.section(content, "OperatingSystemSection")
    assert system is not None, "reading insists on it"
    xml.set_attribute(system, "id", vm.vm_id)
    xml.set_text(content, "Name", vm.name)
    xml.set_text(content, "Description", vm.description)
    xml.set_text(content, "CreationDate", _date(vm.created_at))
    xml.set_text(content, "ExportDate", xml.ovirt_date(at))
    xml.set_text(content, "Generation", str(vm.generation))
    xml.set_text(content, "CustomEmulatedMachine", vm.machine or "")
    properties.write_all(content, vm.custom_properties)
    xml.set_text(content, "TemplateId", vm.template_id or NOTHING)
    xml.set_text(content, "TemplateName", vm.template_name)
    if vm.is_template and not xml.text(content, "TemplateType"):
        xml.set_text(content, "TemplateType", "TEMPLATE")
    if (vm.machine or "").startswith("pc-i440fx-"):
        xml.set_text(content, "BiosType", str(reading.first_bios(root)))
    elif reading.firmware_of(root, content) != (vm.firmware, vm.has_secure_boot):
        wanted = (vm.firmware, vm.has_secure_boot)
        # The last that fits: i440fx stays only where it was.
        number = max(
            number for number, each in reading.FIRMWARES.items() if each == wanted
        )
        xml.set_text(content, "BiosType", str(number - 1 + reading.first_bios(root)))


def _write_processor_and_memory(content: Element, hardware: Element, vm: OvfVm) -> None:
    cpu, memory_mib = vm.cpu, vm.memory_bytes // MiB
    passes_through = cpu.mode is CpuMode.HOST_PASSTHROUGH
    xml.set_text(content, "CustomCpuName", cpu.model or "")
    xml.set_text(content, "UseHostCpu", _truth(passes_through))
    guaranteed = xml.text(content, "MinAllocatedMem")
    if not guaranteed.isdecimal() or not 0 < int(guaranteed) <= memory_mib:
        xml.set_text(content, "MinAllocatedMem", str(memory_mib))
    most = xml.text(content, "MaxMemorySizeMb")
    if not most.isdecimal() or int(most) < memory_mib:
        xml.set_text(content, "MaxMemorySizeMb", str(memory_mib))
    xml.set_text(hardware, "Info", f"{cpu.count} CPU, {memory_mib} Memory")
    _set_all(
        reading.items(hardware, reading.CPU)[0],
        Caption=f"{cpu.count} virtual cpu",
        num_of_sockets=str(cpu.sockets),
        cpu_per_socket=str(cpu.cores),
        threads_per_cpu=str(cpu.threads),
        max_num_of_vcpus=str(cpu.count),
        VirtualQuantity=str(cpu.count),
    )
    _set_all(
        reading.items(hardware, reading.MEMORY)[0],
        Caption=f"{memory_mib} MB of memory",
        VirtualQuantity=str(memory_mib),
    )


def _write_disks(root: Element, hardware: Element, vm: OvfVm) -> None:
    references = xml.child(root, "References")
    section = xml.section(root, "DiskSection")
    if references is None:
        references = etree.Element("References")
        root.insert(0, references)
    if section is None:
        section = xml.new_section(root, "DiskSection")
    keep = set(vm.unsupported_disks)

    def file_id(each: Element) -> str:
        return xml.attribute(each, "id")

    def disk_id(each: Element) -> str:
        return xml.attribute(each, "diskId")

    files = [
        each for each in xml.children(references, "File") if file_id(each) not in keep
    ]
    disks = [
        each for each in xml.children(section, "Disk") if disk_id(each) not in keep
    ]
    drives = reading.items(hardware, reading.DISK)
    volumes = [each.volume_id for each in vm.disks]
    for disk, file in zip(
        vm.disks, _renew(references, files, file_id, volumes, "File"), strict=True
    ):
        _fill_file(file, disk)
    for disk, element in zip(
        vm.disks, _renew(section, disks, disk_id, volumes, "Disk"), strict=True
    ):
        _fill_disk(element, disk, vm)
    drives = [each for each in drives if reading.instance_id(each) not in keep]
    renewed = _renew(hardware, drives, reading.instance_id, volumes, "Item")
    for disk, drive in zip(vm.disks, renewed, strict=True):
        _fill_drive(drive, disk)


def _write_nics(root: Element, hardware: Element, vm: OvfVm) -> None:
    networks = xml.section(root, "NetworkSection")
    if networks is not None:
        names = list(dict.fromkeys(each.network for each in vm.nics if each.network))
        found = xml.children(networks, "Network")
        for name, each in zip(
            names,
            _renew(
                networks,
                found,
                lambda each: xml.attribute(each, "name"),
                names,
                "Network",
            ),
            strict=True,
        ):
            xml.set_attribute(each, "name", name)
    cards = reading.items(hardware, reading.NIC)
    ids = [each.nic_id for each in vm.nics]
    renewed = _renew(hardware, cards, reading.instance_id, ids, "Item")
    for nic, card in zip(vm.nics, renewed, strict=True):
        _fill_nic(card, nic)


def _write_snapshots(content: Element, vm: OvfVm) -> None:
    section = reading.snapshots_of(content)
    if section is None:
        if not vm.snapshots:
            return
        section = xml.new_section(content, "SnapshotsSection")
    renewed = _renew(
        section,
        xml.children(section, "Snapshot"),
        lambda each: xml.attribute(each, "id"),
        [each.snapshot_id for each in vm.snapshots],
        "Snapshot",
    )
    for snapshot, element in zip(vm.snapshots, renewed, strict=True):
        _fill_snapshot(element, snapshot)


def _renew(
    parent: Element,
    found: list[Element],
    id_of: Callable[[Element], str],
    wanted: Iterable[str],
    tag: str,
) -> list[Element]:
    """Return one element for each wanted id, in that order at the parent's end.

    Those that are there already are used again; the others are removed.
    """
    known = {id_of(each).lower(): each for each in found}
    for each in found:
        parent.remove(each)
    renewed = []
    for name in wanted:
        element = known.get(name.lower())
        renewed.append(etree.Element(tag) if element is None else element)
    parent.extend(renewed)
    return renewed


def _fill_file(file: Element, disk: OvfDisk) -> None:
    xml.set_attribute(file, "href", _image(disk))
    xml.set_attribute(file, "id", disk.volume_id)
    xml.set_attribute(file, "size", str(disk.allocated_bytes))
    if not xml.attribute(file, "disk_storage_type"):
        xml.set_attribute(file, "description", disk.description)
        xml.set_attribute(file, "disk_storage_type", "IMAGE")
        xml.set_attribute(file, "cinder_volume_type", "")


def _fill_disk(element: Element, disk: OvfDisk, vm: OvfVm) -> None:
    short, url = _FORMATS[disk.disk_format]
    parent = next(
        (
            _image(each)
            for each in vm.disks
            if each.volume_id == disk.parent_id and each.disk_id == disk.disk_id
        ),
        "",
    )
    fields = {
        "diskId": disk.volume_id,
        "size": str(-(-disk.size_bytes // GiB)),
        "actual_size": str(-(-disk.allocated_bytes // GiB)),
        "vm_snapshot_id": disk.snapshot_id or NOTHING,
        "parentRef": parent,
        "fileRef": _image(disk),
        "format": url,
        "volume-format": short,
        "volume-type": _ALLOCATIONS[disk.allocation],
        "disk-interface": disk.interface.value,
        "read-only": _truth(disk.is_read_only),
        "shareable": _truth(disk.is_shared),
        "boot": _truth(disk.is_bootable),
        "disk-alias": disk.name,
        "disk-description": disk.description,
        "wipe-after-delete": _truth(disk.wipe_after_delete),
    }
    for name, value in fields.items():
        xml.set_attribute(element, name, value)
    if not xml.attribute(element, "pass-discard"):
        xml.set_attribute(element, "pass-discard", "false")


def _fill_drive(item: Element, disk: OvfDisk) -> None:
    _set_all(
        item,
        Caption=disk.name,
        InstanceId=disk.volume_id,
        ResourceType=reading.DISK,
        HostResource=_image(disk),
        Parent=disk.parent_id or NOTHING,
        Template=disk.template_volume_id or NOTHING,
        CreationDate=_date(disk.created_at),
    )
    # oVirt takes zeros there for a storage domain of that id.
    places = {"StorageId": disk.storage_domain_id, "StoragePoolId": disk.pool_id}
    for name, value in places.items():
        if value is None:
            xml.drop(item, name)
        else:
            xml.set_text(item, name, value, RASD)
    for name in ("ApplicationList", "LastModified", "last_modified_date"):
        if xml.child(item, name) is None:
            date = "" if name == "ApplicationList" else _date(disk.created_at)
            xml.set_text(item, name, date, RASD)
    _fill_device(item, "disk", "disk", disk.is_plugged)
    properties.write_device(item, disk.custom_properties)


def _fill_nic(item: Element, nic: OvfNic) -> None:
    _set_all(
        item,
        Caption=f"Ethernet adapter on {nic.network or '[No Network]'}",
        InstanceId=nic.nic_id,
        ResourceType=reading.NIC,
        OtherResourceType=nic.profile,
        ResourceSubType=str(nic.model),
        Connection=nic.network or "",
        Linked=_truth(nic.is_linked),
        Name=nic.name,
        ElementName=nic.name,
        MACAddress=nic.mac,
    )
    if xml.child(item, "speed") is None:
        xml.set_text(item, "speed", "10000", RASD)  # Mbit/s, as oVirt says of virtio
    _fill_device(item, "interface", "bridge", is_plugged=None)
    properties.write_device(item, nic.custom_properties)


def _fill_device(
    item: Element, kind: str, device: str, is_plugged: bool | None
) -> None:
    """Complete what oVirt tells of every device; None leaves its plug alone."""
    defaults = {
        "Type": kind,
        "Device": device,
        "BootOrder": "0",
        "IsPlugged": "true",
        "IsReadOnly": "false",
        "Alias": "",
    }
    for name, value in defaults.items():
        if xml.child(item, name) is None:
            xml.set_text(item, name, value)
    if xml.child(item, "Address") is None:
        xml.set_text(item, "Address", "", RASD)
    if is_plugged is not None:
        xml.set_text(item, "IsPlugged", _truth(is_plugged))


def _fill_snapshot(element: Element, snapshot: OvfSnapshot) -> None:
    xml.set_attribute(element, "id", snapshot.snapshot_id)
    kind = xml.text(element, "Type")
    if not kind or snapshot.kind is not reading.snapshot_kind_of(kind):
        xml.set_text(element, "Type", snapshot.kind.value.upper())
    xml.set_text(element, "Description", snapshot.description)
    xml.set_text(element, "CreationDate", _date(snapshot.created_at))
    if snapshot.memory or xml.child(element, "Memory") is not None:
        xml.set_text(element, "Memory", ",".join(snapshot.memory))
    has_one = xml.child(element, "VmConfiguration") is not None
    if snapshot.configuration or has_one:
        encoded = base64.b64encode(snapshot.configuration).decode()
        xml.set_text(element, "VmConfiguration", encoded)


def _set_all(item: Element, **texts: str) -> None:
    for name, value in texts.items():
        xml.set_text(item, name, value, RASD)


def _image(disk: OvfDisk) -> str:
    return f"{disk.disk_id}/{disk.volume_id}"


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _date(moment: str | None) -> str:
    return "" if moment is None else xml.ovirt_date(moment)
