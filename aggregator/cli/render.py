"""Write what the aggregator replies for people at a terminal. Pure."""

from aggregator.api import model
from aggregator.api.property_model import DeclaredProperties
from node.commands import property_options, terminal


def status(reply: model.AggregatorStatus) -> str:
    role = "leads" if reply.is_leading else "mirrors"
    return (
        f"{reply.name} {role} fleet {reply.fleet_id} with term {reply.term}, "
        f"Skerry {reply.version}\n"
        f"Nodes: {reply.nodes_up} up of {reply.nodes}; VMs: {reply.vms_up} up of "
        f"{reply.vms}; waiting for admission: {reply.candidates}"
    )


def nodes(reply: model.NodeLines) -> str:
    parts = [
        terminal.table(
            ("NODE", "STATE", "ADDRESS", "VMS", "CPUS", "MEMORY", "VERSION", "REASON"),
            (
                (
                    each.name,
                    each.state,
                    each.address,
                    each.vms_running,
                    each.vcpus,
                    terminal.size(each.memory_bytes),
                    each.version,
                    terminal.sentence(each.reason),
                )
                for each in reply.nodes
            ),
        )
    ]
    for each in reply.candidates:
        parts.append(
            f"\n{each.name} at {each.address} waits for admission ({each.node_id}).\n"
            f"Its fingerprint, to compare with its console:\n"
            f"  {terminal.groups(each.fingerprint)}"
        )
        parts.extend(terminal.causes(each.problem))
    return "\n".join(parts)


def token(reply: model.EnrolmentToken) -> str:
    return (
        f"Valid once, until {reply.expires_at}. Either in the node's "
        "/etc/skerry/node.conf:\n"
        f"[node]\naggregator = {reply.aggregator}\ntoken = {reply.token}\n"
        "or as its kernel's arguments:\n"
        f"skerry.aggregator={reply.aggregator} skerry.token={reply.token}"
    )


def vms(reply: model.VmLines) -> str:
    shown = terminal.table(
        ("VM", "STATE", "NODE", "MEMORY", "CPUS", "ADDRESS", "REASON"),
        (
            (
                each.name,
                each.state,
                each.node,
                terminal.size(each.memory_bytes),
                each.vcpus,
                ", ".join(each.addresses),
                terminal.sentence(each.reason),
            )
            for each in reply.vms
        ),
    )
    hidden = reply.total - len(reply.vms)
    return (
        f"{shown}\n… and {hidden} more: name a part of what you look for."
        if (hidden)
        else shown
    )


def vm(reply: model.VmDetail) -> str:
    spec, run = reply.entry.vm.spec, reply.entry.run
    rows: list[tuple[str, object]] = [
        ("name", spec.name),
        ("id", spec.vm_id),
        ("node", reply.node),
        ("state", f"{reply.state} since {run.since} (wanted: {reply.entry.vm.wanted})"),
        *(("", line) for line in terminal.causes(reply.reason)),
        ("memory", terminal.size(spec.memory_bytes)),
        ("processors", spec.cpu.count),
        ("machine", f"{spec.machine}, {spec.firmware}"),
        *(
            (
                each.name,
                f"{terminal.size(each.size_bytes)} from {each.image or 'nothing'}"
                f"{terminal.bus(each)}",
            )
            for each in spec.disks
        ),
        *((each.name, f"{each.mac} on {each.network}") for each in spec.nics),
        *property_options.rows(spec),
    ]
    if run.guest is not None:
        rows.append(("guest", f"{run.guest.host_name} {run.guest.os}"))
        rows.append(("addresses", ", ".join(run.guest.addresses)))
    if run.is_emulated:
        rows.append(("note", "its processor is emulated: KVM cannot be used there"))
    if run.end is not None:
        rows.append(("last end", f"{run.end.cause} at {run.end.at} {run.end.detail}"))
    return terminal.pairs(rows)


def why(reply: model.VmDetail) -> str:
    name = reply.entry.vm.spec.name
    if reply.reason is None:
        return f"{name} is {reply.state}, as wanted."
    head = f"{name} is {reply.state}, wanted {reply.entry.vm.wanted}:"
    return "\n".join((head, *terminal.causes(reply.reason)))


def properties(reply: DeclaredProperties) -> str:
    return terminal.table(
        ("OF", "PROPERTY", "PATTERN", "NEEDS HOOK", "HELP"),
        (
            (each.level, each.name, each.pattern, each.needs_hook, each.help)
            for each in reply.properties
        ),
    )


def placement(reply: model.PlacementLines) -> str:
    rows = (
        (
            each.node,
            "fits" if each.is_accepted else "no",
            f"{each.score:.2f}" if each.is_accepted else "",
            "; ".join(map(terminal.sentence, each.reasons)),
        )
        for each in reply.verdicts
    )
    chosen = f"It would go to {reply.chosen}." if reply.chosen else "No node takes it."
    return f"{chosen}\n{terminal.table(('NODE', 'VERDICT', 'SCORE', 'WHY'), rows)}"


def order(line: model.OrderLine) -> str:
    where = f" on {line.node}" if line.node else ""
    step = f" {_step(line)}" if line.step or line.data_node else ""
    return (
        f"{line.verb} {line.name}{where}: {line.state} {line.progress_percent} %{step}"
    )


def _step(line: model.OrderLine) -> str:
    """Return what it does, and who else moves its data."""
    moved = f"data moved by {line.data_node}" if line.data_node else ""
    return ", ".join(filter(None, (line.step, moved)))


def orders(reply: model.OrderLines) -> str:
    return terminal.table(
        ("ASKED AT", "VERB", "OBJECT", "NODE", "STATE", "%", "BY", "DETAIL"),
        (
            (
                each.created_at,
                each.verb,
                each.name,
                each.node or "",
                each.state,
                each.progress_percent,
                each.user,
                each.error.message if each.error else _step(each),
            )
            for each in reply.orders
        ),
    )


def event(line: model.EventLine) -> str:
    user = f" [{line.user}]" if line.user else ""
    return f"{line.at} {line.severity:<7} {line.text}{user}"


def hooks(reply: model.FleetHooks) -> str:
    """Return the hooks of a fleet, and where they differ."""
    if not reply.hooks:
        return "No node has hooks."
    headers = ("POINT", "SCRIPT", "SAME ON", "ANOTHER ON", "NOT ON")
    cells = [
        (each.point, each.name, *map(", ".join, (each.same, each.others, each.without)))
        for each in reply.hooks
    ]
    parts = [terminal.table(headers, cells)]
    if reply.unheard:
        parts.append(f"Not heard yet: {', '.join(reply.unheard)}")
    return "\n\n".join(parts)
