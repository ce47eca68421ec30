"""The commands on VMs."""

import functools
import sys
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import IO, Any

import click

from node.cli import render
from node.cli.context import Context, generation_option, job_command, pass_context
from node.commands import property_options, terminal
from node.contract.volumes import DiskBusy
from node.errors import Busy, Conflict, NotFound
from node.http.client import NodeClient
from node.model.exports import ExportVm
from node.model.ids import DiskId, JobId, NicId, VmId
from node.model.job import Job
from node.model.properties import CustomProperty
from node.model.requests import (
    ActOnVm,
    AttachDisk,
    CreateVm,
    DeleteVm,
    DetachDisk,
    ResizeVmDisk,
    SetProperties,
    StartVm,
    StopManner,
    StopVm,
)
from node.model.storage_requests import SuspendVm
from node.model.vm import Cpu, Disk, DiskInterface, Firmware, Nic, VmEntry, VmSpec
from node.policy import properties as policy
from node.units import GiB


class StorageDomainOfNoPool(Conflict):
    code = "storage_domain_of_no_pool"
    remedy = "Attach it by `skerry-node storage attach`, or choose another one."


class NoSuchDiskOfVm(NotFound):
    code = "no_such_disk_of_vm"
    remedy = "See `skerry-node vm show` for what it has."


@click.group()
def vm() -> None:
    """Look after the VMs of this node."""


@vm.command("list")
@pass_context
def vm_list(context: Context) -> None:
    """List the VMs that are defined here."""
    reply = context.client.vm_list()
    context.show(reply, lambda: render.vms(reply.vms))


@vm.command("show")
@click.argument("vm")
@pass_context
def vm_show(context: Context, vm: str) -> None:
    """Describe a VM."""
    entry = context.find(vm)
    context.show(entry, lambda: render.vm(entry))


@vm.command("create")
@click.argument("name", default="")
@terminal.new_vm_options
@property_options.property_option
@click.option(
    "--storage-domain",
    "storage",
    help="Make its disk there, instead of on this node's local pool.",
)
@click.option(
    "--id",
    "chosen",
    type=click.UUID,
    default=uuid.uuid4,
    help="Choose its id: asked twice, it is one VM.",
)
@pass_context
def vm_create(
    context: Context,
    /,
    *,
    spec_file: IO[bytes] | None,
    is_started: bool,
    **parts: Any,
) -> None:
    """Create a VM with one disk and one network card, or as --spec has it."""
    if spec_file is not None:
        request = terminal.read_request(CreateVm, spec_file)
    else:
        terminal.check_name(parts["name"])
        request = CreateVm(_spec(context, **parts))
    vm_id = request.spec.vm_id
    entry = _create(context, request)
    if is_started:
        context.follow(context.client.vm_start(vm_id, StartVm()), is_last=False)
        entry = context.client.vm_show(vm_id)
    context.show(entry, lambda: render.vm(entry))


def _create(context: Context, request: CreateVm) -> VmEntry:
    """Create a VM, and follow the jobs on its disks that take long."""
    for _ in request.spec.disks:
        try:
            return context.client.vm_create(request)
        except Busy as error:
            if error.code != DiskBusy.code:
                raise
            job = context.client.job_show(JobId(str(error.fields["job_id"])))
            context.follow(job, is_last=False)
    return context.client.vm_create(request)


def _spec(
    context: Context,
    *,
    name: str,
    image: str | None,
    disk_bytes: int,
    interface: str,
    memory: int,
    cpus: int,
    cpu: Cpu,
    network: str,
    firmware: str,
    description: str,
    properties: tuple[CustomProperty, ...],
    storage: str | None,
    chosen: uuid.UUID,
) -> VmSpec:
    # All ids follow from the VM's: asked for again, it is the same VM.
    disk_id, nic_id = uuid.uuid5(chosen, "disk1"), uuid.uuid5(chosen, "nic1")
    mac = ":".join(["56", "6f", *(f"{byte:02x}" for byte in nic_id.bytes[:4])])
    size = disk_bytes or (0 if image else 8 * GiB)
    disk = Disk(
        *(DiskId(str(disk_id)), "disk1", size, image),
        is_bootable=True,
        interface=DiskInterface(interface),
    )
    pool_id = None
    if storage is not None:
        place = context.storage_domain(storage).storage_domain
        if place.pool_id is None:
            raise StorageDomainOfNoPool(f"storage domain {storage} is in no pool")
        disk = replace(disk, storage_domain_id=place.storage_domain_id)
        pool_id = place.pool_id
    return VmSpec(
        VmId(str(chosen)),
        name,
        memory,
        replace(cpu, cores=cpus),
        Firmware(firmware),
        (disk,),
        (Nic(NicId(str(nic_id)), "nic1", mac, network),),
        description,
        pool_id=pool_id,
        custom_properties=policy.edited((), properties),
    )


@vm.command("set")
@click.argument("vm")
@property_options.change_option
@property_options.device_option
@generation_option
@job_command
def vm_set(
    context: Context,
    /,
    *,
    vm: str,
    changes: tuple[CustomProperty, ...],
    device: str | None,
    generation: int | None,
) -> Job:
    """Change custom properties of a VM; a guest that runs gets them later.

    It does at its next start.
    """
    known = context.find(vm).vm
    device_id = property_options.device_id(known.spec, device)
    wanted = policy.edited(policy.of(known.spec, device_id), changes)
    # What is not changed was read from this generation.
    based_on = known.generation if generation is None else generation
    request = SetProperties(wanted, device_id, generation=based_on)
    return context.client.vm_set_properties(known.spec.vm_id, request)


@vm.command("start")
@click.argument("vm")
@terminal.start_options
@generation_option
@pass_context
def vm_start(
    context: Context,
    vm: str,
    paused: bool,
    discard_memory: bool,
    generation: int | None,
) -> None:
    """Start a VM; one that was suspended goes on where it was."""
    vm_id = context.find(vm).vm.spec.vm_id
    request = StartVm(
        generation=generation, is_paused=paused, discard_memory=discard_memory
    )
    context.follow(context.client.vm_start(vm_id, request))


@vm.command("stop")
@click.argument("vm")
@terminal.stop_options
@pass_context
def vm_stop(context: Context, vm: str, manner: str, deadline: float) -> None:
    """Shut a VM down: guest agent, then ACPI, then by force."""
    vm_id = context.find(vm).vm.spec.vm_id
    request = StopVm(manner=StopManner(manner), deadline_s=deadline)
    context.follow(context.client.vm_stop(vm_id, request))


def act_command(
    command: Callable[[NodeClient, VmId, ActOnVm], Job],
) -> Callable[..., None]:
    """Ask for what needs no more than the VM, and follow the job of it."""

    @click.argument("vm")
    @generation_option
    @pass_context
    @functools.wraps(command)
    def run(context: Context, vm: str, generation: int | None) -> None:
        vm_id = context.find(vm).vm.spec.vm_id
        request = ActOnVm(generation=generation)
        context.follow(command(context.client, vm_id, request))

    return run


@vm.command("pause")
@act_command
def vm_pause(client: NodeClient, vm_id: VmId, request: ActOnVm) -> Job:
    """Pause a running VM."""
    return client.vm_pause(vm_id, request)


@vm.command("suspend")
@act_command
def vm_suspend(client: NodeClient, vm_id: VmId, request: ActOnVm) -> Job:
    """End a running VM and keep its memory: the next start goes on there."""
    return client.vm_suspend(vm_id, SuspendVm(request.generation))


@vm.command("resume")
@act_command
def vm_resume(client: NodeClient, vm_id: VmId, request: ActOnVm) -> Job:
    """Resume a paused VM."""
    return client.vm_resume(vm_id, request)


@vm.command("reset")
@act_command
def vm_reset(client: NodeClient, vm_id: VmId, request: ActOnVm) -> Job:
    """Reset a VM, as its reset button would."""
    return client.vm_reset(vm_id, request)


@vm.command("delete")
@click.argument("vm")
@click.confirmation_option(prompt="Delete the VM with its disks?")
@terminal.leave_disks_option
@generation_option
@pass_context
def vm_delete(
    context: Context, vm: str, leave_disks: bool, generation: int | None
) -> None:
    """Delete a VM that is down, with its disks."""
    vm_id = context.find(vm).vm.spec.vm_id
    request = DeleteVm(generation=generation, may_leave_disks=leave_disks)
    context.follow(context.client.vm_delete(vm_id, request))


@vm.command("export")
@click.argument("vm")
@click.argument("storage_domain")
@terminal.replace_option
@generation_option
@job_command
def vm_export(
    context: Context,
    /,
    *,
    vm: str,
    storage_domain: str,
    is_replacing: bool,
    generation: int | None,
) -> Job:
    """Copy a VM that is down to an export STORAGE_DOMAIN, as it is now."""
    vm_id = context.find(vm).vm.spec.vm_id
    place = context.storage_domain(storage_domain).storage_domain
    request = ExportVm(
        place.storage_domain_id, generation=generation, is_replacing=is_replacing
    )
    return context.client.vm_export(vm_id, request)


@vm.command("attach-disk")
@click.argument("vm")
@click.argument("disk")
@click.option("--read-only", is_flag=True, help="The guest may not write to it.")
@click.option("--bootable", is_flag=True, help="The guest may boot from it.")
@terminal.interface_option
@generation_option
@job_command
def vm_attach_disk(
    context: Context,
    /,
    *,
    vm: str,
    disk: str,
    read_only: bool,
    bootable: bool,
    interface: str,
    generation: int | None,
) -> Job:
    """Give a VM a DISK of its pool, at once if it runs here."""
    known = context.disk(disk)
    given = Disk(
        known.disk_id,
        known.name or known.disk_id,
        known.size_bytes,
        is_bootable=bootable,
        storage_domain_id=known.storage_domain_ids[0],
        is_read_only=read_only,
        is_shared=known.is_shared,
        interface=DiskInterface(interface),
    )
    vm_id = context.find(vm).vm.spec.vm_id
    request = AttachDisk(given, generation=generation)
    return context.client.vm_attach_disk(vm_id, request)


@vm.command("detach-disk")
@click.argument("vm")
@click.argument("disk")
@click.option(
    "--lease-version",
    type=int,
    help="On the pool's manager: of the run elsewhere that has let the disk go.",
)
@generation_option
@job_command
def vm_detach_disk(
    context: Context,
    /,
    *,
    vm: str,
    disk: str,
    lease_version: int | None,
    generation: int | None,
) -> Job:
    """Take a DISK of a pool away from a VM; its data stay.

    If it runs on another node than the pool's manager, ask there first.
    """
    spec = context.find(vm).vm.spec
    disk_id = _disk_of(spec, disk)
    request = DetachDisk(disk_id, generation=generation, lease_version=lease_version)
    return context.client.vm_detach_disk(spec.vm_id, request)


@vm.command("resize-disk")
@click.argument("vm")
@click.argument("disk")
@click.argument("size_bytes", metavar="SIZE", type=terminal.Size())
@click.option(
    "--lease-version",
    type=int,
    help="On the pool's manager: of the run elsewhere under which the disk has grown.",
)
@generation_option
@job_command
def vm_resize_disk(
    context: Context,
    /,
    *,
    vm: str,
    disk: str,
    size_bytes: int,
    lease_version: int | None,
    generation: int | None,
) -> Job:
    """Let a DISK of a pool grow to SIZE under the guest that runs with it."""
    spec = context.find(vm).vm.spec
    request = ResizeVmDisk(
        _disk_of(spec, disk),
        size_bytes,
        generation=generation,
        lease_version=lease_version,
    )
    return context.client.vm_resize_disk(spec.vm_id, request)


def _disk_of(spec: VmSpec, name: str) -> DiskId:
    """Return the id of a VM's disk with a name or an id; NoSuchDiskOfVm."""
    for each in spec.disks:
        if name in (each.disk_id, each.name):
            return each.disk_id
    raise NoSuchDiskOfVm(f"VM {spec.name} has no disk {name}")


@vm.command("screenshot")
@click.argument("vm")
@click.argument("file", type=click.File("wb"))
@pass_context
def vm_screenshot(context: Context, vm: str, file: Any) -> None:
    """Save a PNG picture of a VM's screen."""
    file.write(context.client.vm_screenshot(context.find(vm).vm.spec.vm_id))


@vm.command("serial")
@click.argument("vm")
@click.option(
    "--tail", "tail_bytes", type=terminal.Size(), default="64K", show_default=True
)
@pass_context
def vm_serial(context: Context, vm: str, tail_bytes: int) -> None:
    """Print the end of what a VM wrote on its serial line."""
    vm_id = context.find(vm).vm.spec.vm_id
    sys.stdout.buffer.write(context.client.vm_serial(vm_id, tail_bytes))
