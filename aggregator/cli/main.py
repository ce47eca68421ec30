"""`skerry`: what people of a fleet do from a shell."""

import hashlib
import http.client
import ssl
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import click
import click.shell_completion

from aggregator.api import model, verbs
from aggregator.cli import client, hooks, properties, render, snapshots, templates
from aggregator.cli.context import WAIT_S, Context, pass_context
from aggregator.cli.storage import disks, domains, newcomers, pools, profiles, transfers
from node import VERSION
from node.commands import property_options, terminal, wording
from node.errors import Error, Invalid, Unavailable
from node.model.exports import ExportVm
from node.model.ids import Fingerprint, VmId
from node.model.properties import CustomProperty
from node.model.requests import DeleteVm, StartVm, StopManner, StopVm
from node.model.vm import Cpu, DiskInterface, Firmware


class NoAggregator(Unavailable):
    code = "no_aggregator"
    remedy = "Check the address and the port of the aggregator."


class NoCandidate(Invalid):
    code = "no_candidate"
    remedy = "Give its --fingerprint, as its console shows it."


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@click.version_option(VERSION, prog_name="skerry")
@click.pass_context
def cli(ctx: click.Context, is_json: bool) -> None:
    """Look after a fleet: its nodes, its VMs, what happens."""
    ctx.obj = Context(is_json)


@cli.command()
@click.argument("address")
@click.option("--port", default=443, show_default=True)
@click.option("--user", default="admin@internal", show_default=True)
@click.option("--password-file", type=click.File("r"), help="Else it is asked for.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path, exists=True),
    help="The fleet's CA certificate; else its fingerprint is shown to compare.",
)
@pass_context
def login(
    context: Context,
    address: str,
    port: int,
    user: str,
    password_file: Any,
    ca: Path | None,
) -> None:
    """Log in to the aggregator at ADDRESS."""
    certificate = ca.read_text() if ca else _first_trust(address, port)
    password = (
        password_file.read().rstrip("\n")
        if password_file
        else click.prompt("Password", hide_input=True)
    )
    session = client.Session(address, port, "", certificate)
    token = client.connect(session).login(user, password)
    client.save(
        client.session_path(),
        client.Session(address, port, token.token, certificate),
    )
    context.show(token, lambda: f"Logged in as {token.user} until {token.expires_at}.")


def _first_trust(address: str, port: int) -> str:
    """Fetch the fleet's CA and let the user compare its fingerprint."""
    try:
        pem = _fetch_ca(address, port)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise NoAggregator(f"{address}:{port} cannot be reached: {error}") from error
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    click.echo(f"The CA of this fleet has the fingerprint\n  {terminal.groups(digest)}")
    click.confirm("Is it the one that `skerry-aggregator status` shows?", abort=True)
    return pem


def _fetch_ca(address: str, port: int) -> str:
    # Nothing is believed before the user has compared the fingerprint.
    unverified = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection(
        address, port, timeout=10, context=unverified
    )
    path = "/ovirt-engine/services/pki-resource"
    connection.request("GET", f"{path}?resource=ca-certificate&format=X509-PEM-CA")
    response = connection.getresponse()
    text = response.read(65536).decode("ascii", "replace")
    if response.status != 200 or "BEGIN CERTIFICATE" not in text:
        raise NoAggregator(f"{address}:{port} is not a Skerry aggregator")
    return text


@cli.command()
@pass_context
def status(context: Context) -> None:
    """Say how the fleet is."""
    reply = context.client.status()
    context.show(reply, lambda: render.status(reply))


@cli.command()
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@pass_context
def events(context: Context, follow: bool) -> None:
    """List what happened, oldest first."""
    last = 0
    reply = context.client.event_list()
    while True:
        for line in reversed(reply.events):
            context.show(line, lambda line=line: render.event(line))  # type: ignore[misc]  # a lambda's default binds the loop's value
            last = max(last, line.number)
        if not follow:
            return
        before = time.monotonic()
        reply = context.client.event_list(last, WAIT_S)
        if not reply.events and time.monotonic() - before < 0.1:
            time.sleep(1)  # the aggregator had no waiter to spare


@cli.command()
@pass_context
def orders(context: Context) -> None:
    """List what was asked for lately, and what became of it."""
    reply = context.client.order_list()
    context.show(reply, lambda: render.orders(reply))


@cli.command()
@pass_context
def openapi(context: Context) -> None:
    """Print the description of the API, as JSON."""
    click.echo(terminal.pretty(context.client.openapi()))


@cli.group()
def node() -> None:
    """Look after nodes."""


@node.command("list")
@pass_context
def node_list(context: Context) -> None:
    """List nodes, and who waits for admission."""
    reply = context.client.node_list()
    context.show(reply, lambda: render.nodes(reply))


@node.command("hooks")
@pass_context
def node_hooks(context: Context) -> None:
    """List the hooks of all nodes, and where they differ."""
    reply = context.client.hook_list()
    context.show(reply, lambda: render.hooks(reply))


@node.command("admit")
@click.argument("name")
@click.option(
    "--fingerprint", help="As its console shows it; else it is shown to compare."
)
@pass_context
def node_admit(context: Context, name: str, fingerprint: str | None) -> None:
    """Admit the candidate NAME, or the node at the address NAME."""
    given = Fingerprint((fingerprint or "").replace(" ", "").replace(":", "").lower())
    for each in context.client.node_list().candidates:
        if name in (each.name, each.node_id, each.address):
            if not given:
                click.echo(f"{name} shows\n  {terminal.groups(each.fingerprint)}")
                click.confirm("Does its own console show the same?", abort=True)
            request = model.AdmitNode(given or each.fingerprint, each.node_id)
            break
    else:
        if not given:
            raise NoCandidate(f"{name} is no candidate")
        request = model.AdmitNode(given, address=name)
    reply = context.client.node_admit(request)
    context.show(reply, lambda: f"{reply.name} at {reply.address} was admitted.")


@node.command("remove")
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if it cannot be told.")
@click.confirmation_option(prompt="Remove the node from the fleet?")
@pass_context
def node_remove(context: Context, name: str, force: bool) -> None:
    """Remove a node; its guests are untouched."""
    node_id = context.find_node(name)
    reply = context.client.node_remove(node_id, is_forced=force)
    context.show(reply, lambda: f"{name} was removed.")


@node.command("token")
@click.option("--hours", type=float, default=1.0, show_default=True)
@pass_context
def node_token(context: Context, hours: float) -> None:
    """Make a token with which one node may enrol by itself."""
    reply = context.client.token_make(hours * 3600)
    context.show(reply, lambda: render.token(reply))


@cli.group()
def vm() -> None:
    """Look after VMs."""


@vm.command("list")
@click.argument("search", default="")
@pass_context
def vm_list(context: Context, search: str) -> None:
    """List VMs; SEARCH is part of a name, an address or a state."""
    reply = context.client.vm_list(search)
    context.show(reply, lambda: render.vms(reply))


@vm.command("show")
@click.argument("vm")
@pass_context
def vm_show(context: Context, vm: str) -> None:
    """Describe a VM."""
    reply = context.client.vm_show(context.find_vm(vm))
    context.show(reply, lambda: render.vm(reply))


@vm.command("why")
@click.argument("vm")
@pass_context
def vm_why(context: Context, vm: str) -> None:
    """Explain the state of a VM: what happened, why, and what to do."""
    reply = context.client.vm_show(context.find_vm(vm))
    context.show(reply, lambda: render.why(reply))


@vm.command("create")
@click.argument("name", default="")
@terminal.new_vm_options
@property_options.property_option
@click.option("--node", "node_name", help="Put it there, instead of choosing.")
@click.option(
    "--storage-domain", help="Where its disk lies; else on its node's local pool."
)
@click.option("--id", "vm_id", help="Choose its id: asked twice, it is one VM.")
@click.option("--explain", is_flag=True, help="Only say where it would go, and why.")
@pass_context
def vm_create(
    context: Context,
    /,
    *,
    spec_file: IO[bytes] | None,
    is_started: bool,
    explain: bool,
    **parts: Any,
) -> None:
    """Create a VM with one disk and one network card, or as --spec has it."""
    if spec_file is not None:
        request = terminal.read_request(model.NewVm, spec_file)
    else:
        terminal.check_name(parts["name"])
        request = _new_vm(context, **parts)
    if explain:
        placement = context.client.vm_explain(request)
        context.show(placement, lambda: render.placement(placement))
        return
    chosen = request.vm_id or VmId(str(uuid.uuid4()))
    order = context.client.vm_create(replace(request, vm_id=chosen))
    context.follow(order, is_last=not is_started)
    if is_started:
        context.follow(context.client.vm_start(chosen, StartVm()))


def _new_vm(
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
    node_name: str | None,
    storage_domain: str | None,
    vm_id: str | None,
) -> model.NewVm:
    return model.NewVm(
        name,
        image,
        VmId(vm_id) if vm_id else None,
        memory,
        replace(cpu, cores=cpus),
        disk_bytes,
        Firmware(firmware),
        network,
        description,
        None if node_name is None else context.find_node(node_name),
        context.find_storage_domain(storage_domain).storage_domain_id
        if storage_domain
        else None,
        DiskInterface(interface),
        properties,
    )


@vm.command("start")
@click.argument("vm")
@terminal.start_options
@pass_context
def vm_start(context: Context, vm: str, paused: bool, discard_memory: bool) -> None:
    """Start a VM; one that was suspended goes on where it was."""
    request = StartVm(is_paused=paused, discard_memory=discard_memory)
    context.follow(context.client.vm_start(context.find_vm(vm), request))


@vm.command("stop")
@click.argument("vm")
@terminal.stop_options
@pass_context
def vm_stop(context: Context, vm: str, manner: str, deadline: float) -> None:
    """Shut a VM down: guest agent, then ACPI, then by force."""
    request = StopVm(manner=StopManner(manner), deadline_s=deadline)
    context.follow(context.client.vm_stop(context.find_vm(vm), request))


@vm.command("pause")
@click.argument("vm")
@pass_context
def vm_pause(context: Context, vm: str) -> None:
    """Pause a running VM."""
    context.follow(context.client.vm_act(verbs.VM_PAUSE, context.find_vm(vm)))


@vm.command("suspend")
@click.argument("vm")
@pass_context
def vm_suspend(context: Context, vm: str) -> None:
    """End a running VM and keep its memory: the next start goes on there."""
    context.follow(context.client.vm_act(verbs.VM_SUSPEND, context.find_vm(vm)))


@vm.command("resume")
@click.argument("vm")
@pass_context
def vm_resume(context: Context, vm: str) -> None:
    """Resume a paused VM."""
    context.follow(context.client.vm_act(verbs.VM_RESUME, context.find_vm(vm)))


@vm.command("reset")
@click.argument("vm")
@pass_context
def vm_reset(context: Context, vm: str) -> None:
    """Reset a VM, as its reset button would."""
    context.follow(context.client.vm_act(verbs.VM_RESET, context.find_vm(vm)))


@vm.command("delete")
@click.argument("vm")
@click.confirmation_option(prompt="Delete the VM with its disks?")
@terminal.leave_disks_option
@pass_context
def vm_delete(context: Context, vm: str, leave_disks: bool) -> None:
    """Delete a VM that is down, with its disks."""
    request = DeleteVm(may_leave_disks=leave_disks)
    vm_id = context.find_vm(vm)
    context.follow(context.client.vm_act(verbs.VM_DELETE, vm_id, request))


@vm.command("export")
@click.argument("vm")
@click.argument("storage_domain")
@terminal.replace_option
@pass_context
def vm_export(
    context: Context, vm: str, storage_domain: str, is_replacing: bool
) -> None:
    """Copy a VM that is down to an export STORAGE_DOMAIN, as it is now."""
    place = context.find_storage_domain(storage_domain)
    request = ExportVm(place.storage_domain_id, is_replacing=is_replacing)
    context.follow(context.client.vm_export(context.find_vm(vm), request))


@vm.command("attach-disk")
@click.argument("vm")
@click.argument("disk")
@click.option("--bootable", is_flag=True, help="It may be started from.")
@click.option("--read-only", is_flag=True, help="The guest cannot write to it.")
@terminal.interface_option
@pass_context
def vm_attach_disk(
    context: Context,
    vm: str,
    disk: str,
    bootable: bool,
    read_only: bool,
    interface: str,
) -> None:
    """Give a VM a DISK of its pool, at once if it runs."""
    bus = DiskInterface(interface)
    request = model.AttachVmDisk(context.find_disk(disk), bootable, read_only, bus)
    context.follow(context.client.vm_attach_disk(context.find_vm(vm), request))


@vm.command("detach-disk")
@click.argument("vm")
@click.argument("disk")
@pass_context
def vm_detach_disk(context: Context, vm: str, disk: str) -> None:
    """Take a DISK of a pool away from a VM; its data stay."""
    request = model.DetachVmDisk(context.find_disk(disk))
    context.follow(context.client.vm_detach_disk(context.find_vm(vm), request))


@vm.command("serial")
@click.argument("vm")
@click.option(
    "--tail", "tail_bytes", type=terminal.Size(), default="64K", show_default=True
)
@pass_context
def vm_serial(context: Context, vm: str, tail_bytes: int) -> None:
    """Print the end of what a VM wrote on its serial line."""
    reply = context.client.vm_serial(context.find_vm(vm), tail_bytes)
    sys.stdout.buffer.write(reply)


@vm.command("screenshot")
@click.argument("vm")
@click.argument("file", type=click.File("wb"))
@pass_context
def vm_screenshot(context: Context, vm: str, file: Any) -> None:
    """Save a PNG picture of a VM's screen."""
    file.write(context.client.vm_screenshot(context.find_vm(vm)))


vm.add_command(snapshots.snapshot)
vm.add_command(properties.vm_edit)
for command in (
    newcomers.unregistered,
    newcomers.register,
    newcomers.remove_exported,
    newcomers.write_ovf,
):
    domains.storage.add_command(command)
cli.add_command(domains.storage)
cli.add_command(pools.pool)
cli.add_command(disks.disk)
cli.add_command(profiles.profile)
cli.add_command(profiles.qos)
cli.add_command(properties.declared)
cli.add_command(hooks.hook)
cli.add_command(templates.template)
cli.add_command(transfers.iso)
cli.add_command(transfers.transfer)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    click.echo(terminal.completion(cli, "skerry", shell))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error says what to do next."""
    try:
        wording.in_readers_language(cli)(arguments)
    except Error as error:
        terminal.complain("skerry", error)
        sys.exit(1)
