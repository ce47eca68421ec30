"""The commands on what limits disks: storage QoS and disk profiles."""

from dataclasses import replace

import click

from aggregator.api import profile_model as model
from aggregator.cli.context import Context, pass_context
from aggregator.cli.storage import render
from node.commands import storage_options, terminal
from node.errors import NotFound
from node.model.storage import DiskQos

Limits = tuple[tuple[str, int], ...]


class NoSuchQos(NotFound):
    code = "no_such_storage_qos"
    remedy = "See `skerry qos list` for what there is."


class NoSuchProfile(NotFound):
    code = "no_such_disk_profile"
    remedy = "See `skerry disk-profile list` for what there is."


@click.group()
def qos() -> None:
    """Look after storage QoS: limits that disk profiles may have."""


@qos.command("list")
@pass_context
def qos_list(context: Context) -> None:
    """List storage QoS."""
    reply = context.client.qos_list()
    context.show(reply, lambda: render.qoss(reply))


@qos.command("create")
@click.argument("name")
@storage_options.limits_option
@click.option("--description", default="")
@click.option("--data-center", "data_center_id", help="Its id; else the default one.")
@pass_context
def qos_create(
    context: Context,
    name: str,
    limits: Limits,
    description: str,
    data_center_id: str | None,
) -> None:
    """Make a storage QoS."""
    wanted = DiskQos(**dict(limits))
    request = model.NewStorageQos(name, wanted, description, data_center_id)
    reply = context.client.qos_create(request)
    context.show(reply, lambda: render.qos_line(reply))


@qos.command("change")
@click.argument("name")
@click.option("--name", "new_name", help="What it is called from now on.")
@storage_options.limits_option
@click.option("--description")
@pass_context
def qos_change(
    context: Context,
    name: str,
    new_name: str | None,
    limits: Limits,
    description: str | None,
) -> None:
    """Change a storage QoS; the disks of its profiles follow in a moment."""
    known = find_qos(context, name)
    wanted = replace(known.limits, **dict(limits)) if limits else None
    request = model.ChangeStorageQos(new_name, wanted, description)
    reply = context.client.qos_change(known.qos_id, request)
    context.show(reply, lambda: render.qos_line(reply))


@qos.command("remove")
@click.argument("name")
@pass_context
def qos_remove(context: Context, name: str) -> None:
    """Remove a storage QoS that no disk profile has."""
    reply = context.client.qos_remove(find_qos(context, name).qos_id)
    context.show(reply, lambda: f"{name} was removed.")


@click.group("disk-profile")
def profile() -> None:
    """Look after disk profiles: which storage QoS the disks of a place have."""


@profile.command("list")
@pass_context
def profile_list(context: Context) -> None:
    """List disk profiles by their storage domains."""
    reply = context.client.disk_profile_list()
    context.show(reply, lambda: render.disk_profiles(reply))


@profile.command("create")
@click.argument("name")
@click.argument("storage_domain")
@click.option("--qos", "qos_name", help="The storage QoS that limits its disks.")
@click.option("--description", default="")
@pass_context
def profile_create(
    context: Context,
    name: str,
    storage_domain: str,
    qos_name: str | None,
    description: str,
) -> None:
    """Make a disk profile of STORAGE_DOMAIN."""
    where = context.find_storage_domain(storage_domain).storage_domain_id
    qos_id = find_qos(context, qos_name).qos_id if qos_name else None
    request = model.NewDiskProfile(name, where, description, qos_id)
    reply = context.client.disk_profile_create(request)
    context.show(reply, lambda: render.disk_profile_line(reply))


@profile.command("change")
@click.argument("name")
@click.option("--name", "new_name", help="What it is called from now on.")
@click.option("--qos", "qos_name", help="The storage QoS that limits its disks.")
@click.option("--no-qos", is_flag=True, help="Its disks have limits of their own.")
@click.option("--description")
@pass_context
def profile_change(
    context: Context,
    name: str,
    new_name: str | None,
    qos_name: str | None,
    no_qos: bool,
    description: str | None,
) -> None:
    """Change a disk profile; its disks follow in a moment."""
    if no_qos and qos_name:
        raise click.UsageError("give one of --qos and --no-qos")
    known = find_profile(context, name)
    qos_id = find_qos(context, qos_name).qos_id if qos_name else None
    request = model.ChangeDiskProfile(new_name, description, qos_id, no_qos)
    reply = context.client.disk_profile_change(known.profile_id, request)
    context.show(reply, lambda: render.disk_profile_line(reply))


@profile.command("remove")
@click.argument("name")
@pass_context
def profile_remove(context: Context, name: str) -> None:
    """Remove a disk profile that no disk has."""
    found = find_profile(context, name)
    reply = context.client.disk_profile_remove(found.profile_id)
    context.show(reply, lambda: f"{name} was removed.")


@profile.command("choose")
@click.argument("disk")
@click.argument("name")
@pass_context
def profile_choose(context: Context, disk: str, name: str) -> None:
    """Give DISK the disk profile NAME; its limits follow in a moment."""
    disk_id, found = context.find_disk(disk), find_profile(context, name)
    reply = context.client.disk_choose_profile(disk_id, found.profile_id)
    context.show(reply, lambda: f"{disk} has the disk profile {reply.name}.")


def find_qos(context: Context, name: str) -> model.StorageQosLine:
    """Return the storage QoS with a name or an id."""
    lines = context.client.qos_list().qoss
    found = terminal.find(name, lines, lambda each: each.qos_id, lambda each: each.name)
    if found is None:
        raise NoSuchQos(f"there is no storage QoS named {name}")
    return found


def find_profile(context: Context, name: str) -> model.DiskProfileLine:
    """Return the disk profile with a name or an id."""
    lines = context.client.disk_profile_list().disk_profiles
    found = terminal.find(
        name, lines, lambda each: each.profile_id, lambda each: each.name
    )
    if found is None:
        raise NoSuchProfile(f"there is no disk profile named {name}")
    return found
