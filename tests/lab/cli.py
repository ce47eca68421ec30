"""Give the lab a command line; progress goes to standard error."""

import argparse
import logging
import os
import sys
from collections import abc

from tests.lab import (
    command,
    control,
    errors,
    lab,
    layout,
    machine_vm,
    mirror,
    network,
    running,
)

_EPILOG = """\
Members: h1, h2, … are hosts, a1, a2, … aggregators, sw is the switch.

  SKERRY_LAB_ID      which lab: two ids never meet (default: lab)
  SKERRY_LAB_DIR     its directory, on ext4, xfs or btrfs (default: /srv/skerry-ID)
  SKERRY_LAB_SUBNET  its first three octets (default: 10.77.0, or the next free)

Examples:
  python -m tests.lab up 3
  python -m tests.lab exec h1 virsh list
  python -m tests.lab kill h2 && python -m tests.lab boot h2
  python -m tests.lab service h1 restart agent
  python -m tests.lab fault h1 eio --only '*/images/*'
  python -m tests.lab vm -- sh -c 'modprobe nfsd && uname -r'
  python -m tests.lab down
"""
_TAIL_LINES = 40


def main(arguments: abc.Sequence[str]) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        format="lab: %(message)s",
        level=logging.DEBUG if options.verbose else logging.INFO,
        stream=sys.stderr,
    )
    try:
        status: int = _COMMANDS[options.command](options)
    except errors.LabError as problem:
        print(f"lab: {problem}", file=sys.stderr)
        return 1
    return status


def table(rows: abc.Sequence[abc.Sequence[str]]) -> str:
    """Return rows as aligned columns; the last column is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def summary(states: abc.Sequence[control.State]) -> str:
    """Return a member's services in one line: those that run, then the others."""
    running = [
        state.name if state.starts == 1 else f"{state.name} ({state.starts} starts)"
        for state in states
        if state.pid
    ]
    others = {
        "stopped": [s.name for s in states if not s.pid and not s.is_wanted],
        "waiting": [
            s.name for s in states if not s.pid and s.is_wanted and s.is_waiting
        ],
        "failing": [
            s.name for s in states if not s.pid and s.is_wanted and not s.is_waiting
        ],
    }
    parts = [" ".join(running)]
    parts += [f"{word}: {' '.join(names)}" for word, names in others.items() if names]
    return "; ".join(part for part in parts if part)


def _up(options: argparse.Namespace) -> int:
    one = lab.Lab.up(options.hosts, options.aggregators)
    if options.forward is not None:
        one.forward(options.forward)
    return 0


def _down(_options: argparse.Namespace) -> int:
    lab.take_down(layout.read_settings(os.environ))
    return 0


def _status(_options: argparse.Namespace) -> int:
    one = lab.Lab.load()
    switch = one.member(layout.SWITCH)
    plugged = network.plugged_ports(one.plan) if switch.is_alive() else set()
    rows = [("MEMBER", "ADDRESS", "POWER", "CABLES", "SERVICES")]
    rows += [_row(each, plugged) for each in one.members()]
    print(f"lab {one.plan.lab_id} in {one.plan.directory}")
    print(table(rows))
    return 0


def _row(each: running.Member, plugged: set[str]) -> tuple[str, str, str, str, str]:
    ports = {layout.port_name(each.place, port) for port in each.place.ports}
    cables = "-" if not ports else "in" if ports <= plugged else "cut"
    if not each.is_alive():
        return each.name, each.address, "off", "-", ""
    return each.name, each.address, "on", cables, summary(each.services())


def _exec(options: argparse.Namespace) -> int:
    words = _member(options).entering(options.words)
    environment = {**command.ENVIRONMENT, "TERM": os.environ.get("TERM", "dumb")}
    os.execvpe(words[0], words, environment)


def _act(options: argparse.Namespace) -> int:
    _ACTIONS[options.command](_member(options))
    return 0


def _logs(options: argparse.Namespace) -> int:
    one = _member(options)
    if options.service is not None:
        print(one.log(options.service), end="")
        return 0
    directory = one.log_path("any").parent
    for path in [one.console, *sorted(directory.glob("*.log"))]:
        lines = path.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
        print("\n".join([f"==> {path} <==", *lines]))
    return 0


def _service(options: argparse.Namespace) -> int:
    one = _member(options)
    if options.action == "pid":
        print(one.service_pid(options.name))
    if options.action in ("stop", "restart"):
        one.stop_service(options.name)
    if options.action in ("start", "restart"):
        one.start_service(options.name)
    return 0


def _fault(options: argparse.Namespace) -> int:
    _member(options).set_fault(mirror.Fault[options.fault.upper()], options.only)
    return 0


def _vm(options: argparse.Namespace) -> int:
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    done = machine_vm.run(
        words,
        timeout_s=options.timeout,
        memory_mib=options.memory,
        cpus=options.cpus,
    )
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode


def _member(options: argparse.Namespace) -> running.Member:
    return lab.Lab.load().member(options.member)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab",
        description="Run several real hosts on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say every step")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="bring a lab up, or what lacks of it")
    up.add_argument("hosts", nargs="?", type=int, default=layout.DEFAULT_HOSTS)
    up.add_argument("--aggregators", type=int, default=layout.DEFAULT_AGGREGATORS)
    up.add_argument(
        "--forward", type=int, metavar="PORT", help="forward 127.0.0.1:PORT to a1:443"
    )
    commands.add_parser("down", help="take it down; nothing is left")
    commands.add_parser("status", help="show members, cables and services")
    execute = _member_command(commands, "exec", "run a command in a member")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD")
    _member_command(commands, "kill", "cut a member's power; its disk stays")
    _member_command(commands, "boot", "switch a member on")
    _member_command(commands, "cut", "pull a member's network cables; it runs on")
    _member_command(commands, "heal", "put the cables back")
    _member_command(commands, "hang-storage", "let its shared storage hang")
    _member_command(commands, "resume-storage", "let it go on")
    fault = _member_command(commands, "fault", "let its shared storage fail")
    fault.add_argument("fault", choices=[each.name.lower() for each in mirror.Fault])
    fault.add_argument("--only", default="", metavar="PATTERN", help="for these paths")
    vm = commands.add_parser("vm", help="run a command in a throw-away VM")
    vm.add_argument("--timeout", type=float, default=machine_vm.TIMEOUT_S, metavar="S")
    vm.add_argument("--memory", type=int, default=machine_vm.MEMORY_MIB, metavar="MIB")
    vm.add_argument("--cpus", type=int, default=machine_vm.CPUS)
    vm.add_argument("words", nargs=argparse.REMAINDER, metavar="CMD")
    logs = _member_command(commands, "logs", "print a service's log, or all ends")
    logs.add_argument("service", nargs="?")
    service = _member_command(commands, "service", "start or stop one service")
    service.add_argument("action", choices=("stop", "start", "restart", "pid"))
    service.add_argument("name", metavar="NAME")
    return parser


def _member_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    summary_text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=summary_text)
    parser.add_argument("member", metavar="MEMBER")
    return parser


_ACTIONS: dict[str, abc.Callable[[running.Member], None]] = {
    "kill": running.Member.kill,
    "boot": running.Member.boot,
    "cut": running.Member.cut,
    "heal": running.Member.heal,
    "hang-storage": running.Member.hang_storage,
    "resume-storage": running.Member.resume_storage,
}
_COMMANDS: dict[str, abc.Callable[[argparse.Namespace], int]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "exec": _exec,
    "fault": _fault,
    "logs": _logs,
    "vm": _vm,
    "service": _service,
    **dict.fromkeys(_ACTIONS, _act),
}
