"""`skerry-aggregator`: found a fleet, run its aggregator, rebuild it, promote it.

For the machine's administrator; people use `skerry` or the dashboard.
"""

import os
import secrets
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from aggregator import authority, config, db
from aggregator.access import Access
from aggregator.access.defaults import ensure_defaults
from aggregator.access.identity import ADMINISTRATOR
from aggregator.control import placing
from aggregator.federation.events import EventLog
from aggregator.fleet import founding, reach
from aggregator.fleet.roster import Roster
from aggregator.fleet.term import Leadership
from aggregator.registry import ADMISSION_PORT, parse_address
from node import VERSION
from node.clock import SystemClock
from node.commands import terminal, wording
from node.errors import Denied, Error, NotFound
from node.log import Secret
from node.model import options

PASSWORD_BYTES = 12  # of a password that we make up: 16 letters to type once


class NotYours(Denied):
    code = "not_yours"
    remedy = "Run it as root, or as the user whom the state folder belongs to."


class NoSuchAggregator(NotFound):
    code = "no_such_aggregator"
    remedy = "See `skerry-aggregator status` for those that there are."


class Context:
    """What the options before the command say, and what lies in the folders."""

    def __init__(self, path: Path, is_json: bool) -> None:
        self.config = config.load(path)
        self.is_json = is_json
        self.state = Path(self.config.state_folder)
        self.pki = self.state / "pki"
        self.clock = SystemClock()

    def database(self) -> db.Database:
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except PermissionError as error:
            raise NotYours(f"{self.state} cannot be made: {error}") from error
        return db.Database(self.config.database_url or _sqlite_url(self.state))

    def access(self, database: db.Database) -> Access:
        return Access(database, self.clock, EventLog(database, self.clock))

    def leadership(self, database: db.Database) -> Leadership:
        return Leadership(database, authority.Authority(self.pki, self.clock), self.pki)

    def finish(self) -> None:
        """Say on disk that this aggregator can run; services wait for it."""
        (self.state / "initialized").touch()

    def restart(self) -> bool:
        """Let a running aggregator load what changed; False if none runs."""
        try:
            pid = int((Path(self.config.run_folder) / "aggregator.pid").read_text())
            os.kill(pid, signal.SIGHUP)
        except (FileNotFoundError, ValueError, ProcessLookupError):
            return False
        return True

    def show(self, values: dict[str, Any], text: str) -> None:
        """Print a result: as JSON if asked for, else as text."""
        click.echo(terminal.pretty(values) if self.is_json else text)


pass_context = click.make_pass_decorator(Context)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=config.DEFAULT_PATH,
    show_default=True,
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON.")
@click.version_option(VERSION, prog_name="skerry-aggregator")
@click.pass_context
def cli(ctx: click.Context, path: Path, is_json: bool) -> None:
    """Found a fleet, run its aggregator, rebuild it, promote it."""
    ctx.obj = Context(path, is_json)


@cli.command()
@click.option("--password-stdin", is_flag=True, help="Read admin's password.")
@pass_context
def init(context: Context, password_stdin: bool) -> None:
    """Found a new fleet; print its recovery key, once."""
    password = _password(password_stdin)
    database = context.database()
    founding.check_is_empty(database.records("setting"))
    ensure_defaults(database)
    # First what can be refused: founding is not done twice.
    context.access(database).set_password(ADMINISTRATOR, Secret(password))
    key = founding.init(context.pki, database, context.clock)
    leadership = context.leadership(database)
    leadership.seal_changes()
    fingerprint = authority.Authority(context.pki, context.clock).ca_fingerprint
    context.finish()
    context.show(
        {
            "recovery_key": key.reveal(),
            "user": ADMINISTRATOR,
            "password": None if password_stdin else password,
            "fleet_id": leadership.fleet_id,
            "ca_fingerprint": fingerprint,
        },
        f"Fleet {leadership.fleet_id} was founded.\n\n"
        f"Recovery key (shown now and never again; keep it somewhere else):\n"
        f"  {key.reveal()}\n\n"
        f"Fingerprint of the fleet's CA:\n  {terminal.groups(fingerprint)}\n\n"
        + ("" if password_stdin else f"Login: {ADMINISTRATOR}, password {password}\n")
        + "Next: skerry-aggregator run",
    )


@cli.command()
@pass_context
def run(context: Context) -> None:
    """Run the aggregator in the foreground."""
    from aggregator import app  # the other commands need not load all that

    app.run(context.config)


@cli.command()
@click.option("--node", "address", required=True, help="A node of the fleet.")
@click.option("--recovery-key-stdin", is_flag=True, help="Else it is asked for.")
@click.option("--mirror", is_flag=True, help="Do not lead: mirror beside another.")
@pass_context
def rebuild(
    context: Context, address: str, recovery_key_stdin: bool, mirror: bool
) -> None:
    """Rebuild the fleet's aggregator on this empty machine."""
    text = (
        sys.stdin.readline().strip()
        if recovery_key_stdin
        else click.prompt("Recovery key", hide_input=True)
    )
    host, port = parse_address(address, ADMISSION_PORT)
    database = context.database()
    fleet_id = founding.rebuild(
        context.pki,
        database,
        # The copy proves itself: only the fleet's recovery key opens it.
        reach.doorstep(host, port, None),
        Secret(text),
        is_mirror=mirror,
    )
    leadership = context.leadership(database)
    leadership.seal_changes()
    members = len(database.records("member").list())
    context.finish()
    context.show(
        {"fleet_id": fleet_id, "term": leadership.term, "members": members},
        f"Fleet {fleet_id} with {members} nodes is rebuilt; this aggregator "
        + ("mirrors it." if mirror else f"leads with term {leadership.term}.")
        + "\nNext: skerry-aggregator run",
    )


@cli.command()
@pass_context
def promote(context: Context) -> None:
    """Lead the fleet from now on: nodes refuse the others' commands."""
    database = context.database()
    term = context.leadership(database).promote()
    name = context.config.name or socket.gethostname()
    log = EventLog(database, context.clock)
    log.record("aggregator_promoted", aggregator=name, term=term)
    log.close()
    context.restart()
    context.show({"term": term}, f"This aggregator leads with term {term}.")


@cli.command()
@click.argument("name")
@pass_context
def forget(context: Context, name: str) -> None:
    """Let nodes push to an aggregator no longer; one that lives comes back."""
    context.leadership(context.database()).check_leading()
    if not Roster(context.database()).forget(name):
        raise NoSuchAggregator(f"the fleet has no aggregator {name}")
    context.restart()
    context.show({"forgotten": name}, f"Nodes push to {name} no longer.")


@cli.command()
@pass_context
def status(context: Context) -> None:
    """Show the fleet, the term, and the CA's fingerprint."""
    leadership = context.leadership(context.database())
    fingerprint = authority.Authority(context.pki, context.clock).ca_fingerprint
    role = "leads" if leadership.is_leading else "mirrors"
    names = [each.name for each in Roster(context.database()).list()]
    context.show(
        {
            "fleet_id": leadership.fleet_id,
            "term": leadership.term,
            "is_leading": leadership.is_leading,
            "sealed_version": leadership.mark().version,
            "ca_fingerprint": fingerprint,
            "aggregators": names,
        },
        f"This aggregator {role} fleet {leadership.fleet_id}, term {leadership.term}.\n"
        f"Nodes push to: {', '.join(names)}\n"
        f"Fingerprint of the fleet's CA:\n  {terminal.groups(fingerprint)}",
    )


@cli.command()
@click.argument("user", default=ADMINISTRATOR)
@click.option("--password-stdin", is_flag=True)
@pass_context
def password(context: Context, user: str, password_stdin: bool) -> None:
    """Give a user a new password; sessions of the old one end."""
    chosen = _password(password_stdin)
    context.access(context.database()).set_password(user, Secret(chosen))
    shown = "" if password_stdin else f": {chosen}"
    context.show({"user": user}, f"{user} has a new password{shown}")


@cli.command("recovery-key")
@click.confirmation_option(prompt="Make a new one? The old one opens no newer copy.")
@pass_context
def recovery_key(context: Context) -> None:
    """Make a new recovery key, and print it once."""
    key = context.leadership(context.database()).change_recovery_key()
    context.restart()
    context.show({"recovery_key": key.reveal()}, key.reveal())


@cli.command()
@click.argument("choice", required=False, type=click.Choice(["allowed", "refused"]))
@pass_context
def emulation(context: Context, choice: str | None) -> None:
    """Say whether VMs may be placed on nodes without KVM, or change it.

    VMs that run are left alone. A mirror takes the choice over from its leader.
    """
    database = context.database()
    settings = database.records("setting")
    if choice is not None:
        context.leadership(database).check_leading()
        settings.put(placing.ALLOWS_EMULATION, choice == "allowed")
    is_allowed = placing.allows_emulation(settings)
    context.show(
        {"allows_emulation": is_allowed},
        "VMs may be placed on nodes without KVM: they run there, slowly."
        if is_allowed
        else "VMs are placed on nodes with KVM only.",
    )


@cli.command("options")
@pass_context
def show_options(context: Context) -> None:
    """List the options of the configuration file."""
    context.show(
        {"options": options.rows(config.Config)},
        terminal.table(options.HEADERS, options.cells(config.Config)),
    )


def _password(is_given: bool) -> str:
    """Return the password on standard input, or a new random one."""
    if is_given:
        return sys.stdin.readline().rstrip("\n")
    return secrets.token_urlsafe(PASSWORD_BYTES)


def _sqlite_url(state: Path) -> str:
    return db.sqlite_url(state / "aggregator.db")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error says what to do next."""
    try:
        wording.in_readers_language(cli)(arguments)
    except Error as error:
        terminal.complain("skerry-aggregator", error)
        sys.exit(1)
