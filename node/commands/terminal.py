"""Speak with people at a terminal: what all command lines of ours have in common."""

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable
from typing import IO, Any, Final, Protocol, TypeVar

import click
import click.shell_completion
import tabulate
from click.core import ParameterSource

from node import translate, wire
from node.errors import Conflict, Error
from node.model.ids import NodeId
from node.model.job import ENDED, ErrorReport, JobState
from node.model.reason import Reason, chain
from node.model.requests import StopManner
from node.model.vm import Cpu, CpuMode, Disk, DiskInterface
from node.units import GiB, KiB, MiB
from node.wire import Json

Command = TypeVar("Command", bound=Callable[..., Any])
Request = TypeVar("Request")

SPEC: Final = "--spec"
SPEC_PARAMETER: Final = "spec_file"
# What may be asked beside a whole request: it is no part of it.
_BESIDE_SPEC: Final = frozenset({SPEC_PARAMETER, "is_started", "explain"})

# Control characters but the ends of lines and tabs.
_COMMANDS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_STEPS: Final = (("TiB", 1024 * GiB), ("GiB", GiB), ("MiB", MiB), ("KiB", KiB))
_SUFFIXES: Final = {"k": KiB, "m": MiB, "g": GiB, "t": 1024 * GiB}
_GROUP: Final = 4  # hex digits of a fingerprint that the eye takes at once
# An answer this soon, to who asked to wait, had no waiter to spare for us.
_NO_WAITER_S: Final = 0.1
_PAUSE_S: Final = 0.3


class Work(Protocol):
    """A job, or an order of one."""

    @property
    def state(self) -> JobState: ...

    @property
    def error(self) -> ErrorReport | None: ...


AnyWork = TypeVar("AnyWork", bound=Work)
T = TypeVar("T")


class NameOfMany(Conflict):
    code = "name_of_many"
    remedy = "Give the id instead of the name."


class Size(click.ParamType):
    """A size such as 512M or 8G; a bare number is bytes."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        text = str(value).strip().lower().removesuffix("b").removesuffix("i")
        factor = _SUFFIXES.get(text[-1:], 1)
        with contextlib.suppress(ValueError, OverflowError):
            count = int(float(text[:-1] if factor > 1 else text) * factor)
            if count >= 0:
                return count
        self.fail(f"{value!r} is not a size such as 512M or 8G", param, ctx)


class NodeName(click.ParamType):
    """A node, as the context of the command line finds it."""

    name = "node"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> NodeId:
        assert ctx is not None, "options are read with their command"
        found: NodeId = ctx.obj.find_node(value)
        return found


class CpuChoice(click.ParamType):
    """A processor such as host_passthrough or named:EPYC-Rome."""

    name = "mode[:model]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Cpu:
        if isinstance(value, Cpu):
            return value
        mode, _, model = str(value).partition(":")
        modes = [each.value for each in CpuMode]
        if mode not in modes:
            self.fail(f"{mode!r} is none of {', '.join(modes)}", param, ctx)
        if (mode == CpuMode.NAMED) != bool(model):
            example = f"{CpuMode.NAMED}:EPYC-Rome"
            self.fail(f"a model belongs to {CpuMode.NAMED}: {example}", param, ctx)
        return Cpu(CpuMode(mode), model or None)


data_node_option = click.option(
    "--data-node",
    "data_node_id",
    type=NodeName(),
    help="Let that node of the pool move the data; else one is chosen.",
)
generation_option = click.option(
    "--generation", type=int, help="Only if its definition still has this one."
)
replace_option = click.option(
    "--replace",
    "is_replacing",
    is_flag=True,
    help="Remove what was exported of it before.",
)
interface_option = click.option(
    "--interface",
    type=click.Choice([each.value for each in DiskInterface]),
    default=DiskInterface.VIRTIO.value,
    show_default=True,
    help="The bus of its disk; ide makes it an i440fx machine.",
)


def new_vm_options(command: Command) -> Command:
    """Add the options that say what a new VM is: its parts, or all in one file."""
    return with_options(
        command,
        click.option(
            SPEC,
            SPEC_PARAMETER,
            type=click.File("rb"),
            help="The whole request as JSON, as the API takes it (-: standard input).",
        ),
        click.option(
            "--image",
            help="The base image that its disk starts as; on a pool, its manager's.",
        ),
        click.option(
            "--disk",
            "disk_bytes",
            type=Size(),
            default=0,
            help="Size of its disk, which takes what is written; "
            "else the image's, or 8G.",
        ),
        interface_option,
        click.option("--memory", type=Size(), default="512M", show_default=True),
        click.option(
            "--cpus", type=click.IntRange(1, 512), default=1, show_default=True
        ),
        click.option(
            "--cpu", type=CpuChoice(), default=Cpu(), help="What processor it sees."
        ),
        click.option("--network", default="ovirtmgmt", show_default=True),
        click.option("--firmware", type=click.Choice(["bios", "uefi"]), default="bios"),
        click.option("--description", default=""),
        click.option("--start", "is_started", is_flag=True, help="Start it, too."),
    )


def bus(disk: Disk) -> str:
    """Return on which bus a disk is, unless that is the usual one."""
    is_usual = disk.interface is DiskInterface.VIRTIO
    return "" if is_usual else f", on {disk.interface.value}"


def with_options(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Add options to a command, in the order in which its help shows them."""
    for option in reversed(options):
        command = option(command)
    return command


def read_request(kind: type[Request], file: IO[bytes]) -> Request:
    """Return the request that a file holds; UsageError if options say more of it."""
    context = click.get_current_context()
    for each in context.command.params:
        source = context.get_parameter_source(each.name or "")
        if source is ParameterSource.COMMANDLINE and each.name not in _BESIDE_SPEC:
            hint = each.get_error_hint(context)
            raise click.UsageError(f"{SPEC} says all: leave {hint} out")
    return wire.decode(kind, file.read())


def check_name(name: str) -> None:
    """Raise UsageError if a new VM was given neither a name nor a whole request."""
    if not name:
        raise click.UsageError(f"give NAME, or {SPEC} FILE")


def start_options(command: Command) -> Command:
    """Add the options that say how a VM is started."""
    return with_options(
        command,
        click.option("--paused", is_flag=True, help="Do not run its processors yet."),
        click.option(
            "--discard-memory", is_flag=True, help="Boot a VM that was suspended."
        ),
    )


def leave_disks_option(command: Command) -> Command:
    """Add the option that deletes a VM whose storage is away."""
    return with_options(
        command,
        click.option(
            "--leave-disks",
            is_flag=True,
            help="Although disks on storage domains that are not active stay.",
        ),
    )


def stop_options(command: Command) -> Command:
    """Add the options that say how a VM is stopped."""
    return with_options(
        command,
        click.option(
            "--manner",
            type=click.Choice([manner.value for manner in StopManner]),
            default=StopManner.GRACEFUL.value,
            show_default=True,
            help="How hard.",
        ),
        click.option(
            "--deadline", type=float, default=60.0, show_default=True, help="In s."
        ),
    )


def find(
    name: str,
    known: Iterable[T],
    id_of: Callable[[T], str],
    name_of: Callable[[T], str],
) -> T | None:
    """Return the one with an id, or else with a name; NameOfMany."""
    named = []
    for each in known:
        if name == id_of(each):
            return each
        if name == name_of(each):
            named.append(each)
    if len(named) > 1:
        raise NameOfMany(f"{name} is the name of {', '.join(map(id_of, named))}")
    return named[0] if named else None


def show(value: object, text: Callable[[], str], *, is_json: bool) -> None:
    """Print a reply: as JSON if asked for, else as text."""
    click.echo(pretty(wire.to_json(value)) if is_json else plain(text()))


def follow(
    work: AnyWork,
    ask: Callable[[AnyWork], AnyWork],
    line: Callable[[AnyWork], str],
    *,
    is_json: bool,
    is_last: bool = True,
) -> None:
    """Show how work goes until it ends; exit 1 if it failed.

    `ask` returns the work as it is after a while, `line` a sentence of it. As JSON
    only its end is printed, and not that if more follows: one document a command.
    """
    shown = ""
    while True:
        text = line(work)
        if not is_json and text != shown:
            click.echo(plain(text), err=True)
            shown = text
        if work.state in ENDED:
            break
        before = time.monotonic()
        work = ask(work)
        is_answered_at_once = time.monotonic() - before < _NO_WAITER_S
        if is_answered_at_once and work.state not in ENDED:
            time.sleep(_PAUSE_S)
    is_done = work.state is JobState.DONE
    if is_json and (is_last or not is_done):
        click.echo(pretty(wire.to_json(work)))
    if not is_done:
        if work.error is not None:
            told = f"{work.error.message}\n{work.error.remedy}"
            click.echo(plain(told), err=True)
        sys.exit(1)


def pretty(value: Json) -> str:
    """Return JSON that a person can read."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def plain(text: str) -> str:
    """Return a text without what commands a terminal: guests may have written it."""
    return _COMMANDS.sub("?", text)


def table(headers: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """Return a table without frames, fit for a serial line."""
    return tabulate.tabulate(
        list(rows), headers, tablefmt="plain", disable_numparse=True
    )


def pairs(rows: Iterable[tuple[str, object]]) -> str:
    """Return names and values, one pair a line."""
    return tabulate.tabulate(list(rows), tablefmt="plain", disable_numparse=True)


def size(count: int) -> str:
    """Return bytes in the largest unit that leaves a figure above one."""
    for unit, factor in _STEPS:
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def sentence(reason: Reason | None) -> str:
    """Return what a reason says, without its causes; empty if there is none."""
    return translate.text(reason.code, reason.fields) if reason else ""


def causes(reason: Reason | None) -> list[str]:
    """Return the chain of a reason, a line each, with the remedies."""
    lines = []
    for depth, each in enumerate(chain(reason)):
        indent = "  " * depth
        lead = "because: " if depth else ""
        lines.append(f"{indent}{lead}{sentence(each)} (since {each.since})")
        if remedy := translate.remedy(each.code, each.fields):
            lines.append(f"{indent}→ {remedy}")
    return lines


def groups(fingerprint: str) -> str:
    """Return a fingerprint in groups, to compare by eye."""
    return " ".join(
        fingerprint[start : start + _GROUP]
        for start in range(0, len(fingerprint), _GROUP)
    )


def completion(command: click.Command, name: str, shell: str) -> str:
    """Return the script that makes a shell complete a command."""
    kind = click.shell_completion.get_completion_class(shell)
    assert kind is not None, shell
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    return kind(command, {}, name, variable).source()


def complain(name: str, error: Error) -> None:
    """Write an error on standard error, with what to do next."""
    click.echo(plain(f"{name}: {error}"), err=True)
    if error.remedy:
        click.echo(plain(error.remedy), err=True)
