"""Show a real fleet on this one machine: `make demo` and `make demo-down`.

Three hosts that share storage, an aggregator and two VMs, in the lab that the tests
use. The demo plays the administrator, and says so.
"""

import argparse
import contextlib
import logging
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

from aggregator.api import storage_verbs
from aggregator.api.model import NewVm, OrderLine, VmDetail
from aggregator.api.storage_model import NewStorageDomain, PoolLine
from aggregator.cli import client
from node.commands import terminal
from node.errors import Error
from node.model.storage import Connection, DomainType
from node.units import GiB, MiB
from tests.lab import errors, fleet, lab, layout, members, waiting

PORT_DEFAULT = 8443
_FOLDER = Path(
    os.environ.get("SKERRY_DEMO_FOLDER", members.CHECKOUT / "build" / "demo")
)
_SESSION = _FOLDER / "session.json"
_LOGS = ".venv/bin/python -m tests.lab logs a1"
_SHARED = "shared"
_WIDTH = 80
_INTERRUPTED = 130  # what a shell says of Ctrl-C
_NEXT = "What is up stays: `make demo` goes on, `make demo-down` ends it."


def main() -> int:
    """Run `up` or `down`; a failure names the part, the log and the remedy."""
    arguments = _parser().parse_args()
    logging.basicConfig(level="WARNING", format="  %(message)s", stream=sys.stderr)
    logging.getLogger("tests.lab").setLevel("INFO")  # what each member does
    try:
        if arguments.command == "up":
            up(arguments.port)
        else:
            down()
    except errors.LabError as error:
        return _fail(str(error))
    except Error as error:
        return _fail(f"{error}\n  log: {_LOGS}\n  remedy: {error.remedy}")
    except OSError as error:
        return _fail(f"{error}\n  remedy: correct what it names, then try again")
    except KeyboardInterrupt:
        print(f"\ninterrupted\n{_NEXT}", file=sys.stderr)
        return _INTERRUPTED
    return 0


def up(port: int) -> None:
    """Bring the fleet up, or what lacks of it, and say where to look."""
    begin = time.monotonic()
    lab.check_port(layout.read_settings(os.environ), port)
    with _step("three hosts and an aggregator, each in namespaces of its own"):
        running = lab.Lab.up(3, 1)
        running.forward(port)
    demo = fleet.Fleet(running, port)
    with _step("the aggregator of a new fleet"):
        key = demo.initialise()
        fleet_client = demo.log_in()
    _remember(key)
    with _step("the hosts found on the network by Avahi"):
        demo.wait_candidates(fleet_client)
    for each in fleet_client.node_list().candidates:
        print(f"    {each.name} at {each.address} waits for admission with")
        print(f"    {terminal.groups(each.fingerprint)}")
    print("  Playing the administrator: comparing each with the host's own console.")
    with _step("the hosts admitted"):
        demo.admit_all(fleet_client)
        nodes = demo.wait_up(fleet_client)
    if all(node.is_emulating for node in nodes):
        print("  KVM cannot boot a guest on this machine: guests are emulated.")
    storage = _begin_storage(demo, fleet_client)
    detail = _show_vm(demo, fleet_client)
    manager = _show_storage(demo, fleet_client, storage)
    client.save(_SESSION, demo.session())
    print(_summary(demo, detail, manager, time.monotonic() - begin))


def down() -> None:
    """Stop everything; the lab checks that nothing is left."""
    with _step("the demo taken down, and nothing left of it"):
        lab.take_down(layout.read_settings(os.environ))
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(_FOLDER)
    print(what_stays(members.CHECKOUT / "build" / "installed-packages.txt"))


def what_stays(listing: Path) -> str:
    """Return what is still on the machine; `listing` names the packages, if any."""
    built = "What was built stays in the clone; `make clean` removes it."
    if not listing.exists():
        return built
    names = " ".join(sorted(set(listing.read_text().split())))
    head = "These Debian packages were installed, and stay:"
    indent = "  "
    body = textwrap.fill(
        names,
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return f"{head}\n{body}\n{built}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab.demo", description=__doc__
    )
    parser.add_argument("command", choices=["up", "down"])
    parser.add_argument(
        "--port",
        type=_port,
        default=os.environ.get("SKERRY_DEMO_PORT") or str(PORT_DEFAULT),
        help="of this machine, for the dashboard (SKERRY_DEMO_PORT)",
    )
    return parser


def _port(text: str) -> int:
    if text.isdecimal() and 0 < int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: set SKERRY_DEMO_PORT")


def _fail(told: str) -> int:
    """Print a failure and what is left now; return the exit status."""
    print(f"\nfailed: {told}\n{_NEXT}", file=sys.stderr)
    return 1


def _show_vm(demo: fleet.Fleet, fleet_client: client.FleetClient) -> VmDetail:
    """Create, start and reach a VM; one that a former run made is kept."""
    found = [vm for vm in fleet_client.vm_list("demo").vms if vm.name == "demo"]
    if found:
        vm_id = found[0].vm_id
    else:
        with _step("a VM created on a node that the aggregator chose"):
            request = NewVm("demo", fleet.IMAGE, memory_bytes=128 * MiB)
            vm_id = demo.create_vm(fleet_client, request)
    with _step("the VM started, its guest up with an address"):
        demo.start_vm(fleet_client, vm_id)
        detail = demo.wait_address(fleet_client, vm_id)
    guest = detail.entry.run.guest
    assert guest is not None
    url = f"http://{guest.addresses[0]}/tick"
    with _step(f"the guest's web server asked: {url}"):
        waiting.until(
            f"an answer of {url}",
            lambda: demo.lab.in_switch(["curl", "-fsS", url]).returncode == 0,
            log_path=demo.lab.member(detail.node).log_path("agent"),
        )
    return detail


def _begin_storage(
    demo: fleet.Fleet, fleet_client: client.FleetClient
) -> OrderLine | None:
    """Order storage that all hosts share; None: a former run did.

    Joining it takes sanlock a while, in which the VM boots.
    """
    known = fleet_client.storage_domain_list().storage_domains
    if any(each.name == _SHARED for each in known):
        return None
    folder = f"{members.SHARED_STORAGE}/demo"
    words = ["install", "-d", "-o", "36", "-g", "36", "-m", "0770", folder]
    demo.lab.member("h1").exec(words)
    place = Connection(DomainType.POSIXFS, folder)
    request = NewStorageDomain(_SHARED, place)
    return fleet_client.storage_domain_act(storage_verbs.STORAGE_DOMAIN_CREATE, request)


def _show_storage(
    demo: fleet.Fleet, fleet_client: client.FleetClient, order: OrderLine | None
) -> str:
    """Have a pool of three hosts and a VM on it; return the name of its manager."""

    def is_joined() -> PoolLine | None:
        pools = fleet_client.pool_list().pools
        shared = [each for each in pools if not each.is_local and each.manager]
        return next((each for each in shared if each.nodes == len(demo.hosts())), None)

    with _step("storage that the three hosts share, and a manager elected"):
        if order is not None:
            demo.wait_order(fleet_client, order)
        pool = waiting.until("all hosts in the pool", is_joined, timeout_s=60.0)
    if not any(vm.name == "pooled" for vm in fleet_client.vm_list("pooled").vms):
        with _step("a VM with its disk on the shared storage, started"):
            found = fleet_client.storage_domain_list().storage_domains
            where = next(e.storage_domain_id for e in found if e.name == _SHARED)
            request = NewVm(
                "pooled",
                memory_bytes=64 * MiB,
                disk_bytes=GiB,
                description="Its disk is empty: upload one, or boot something else.",
                storage_domain_id=where,
            )
            vm_id = demo.create_vm(fleet_client, request)
            demo.start_vm(fleet_client, vm_id)
    return pool.manager


def _summary(
    demo: fleet.Fleet, detail: VmDetail, manager: str, elapsed_s: float
) -> str:
    guest = detail.entry.run.guest
    assert guest is not None
    command = members.VIRTUAL_ENVIRONMENT.relative_to(members.CHECKOUT) / "bin/skerry"
    return f"""
A fleet runs on this machine ({elapsed_s:.0f} s): 3 nodes, 1 aggregator, the VM "demo"
on {detail.node}, with the address {guest.addresses[0]}, and storage that all nodes
share, managed by {manager}, with the disk of the VM "pooled" (which holds no system).

  Dashboard   https://127.0.0.1:{demo.port}/   (its certificate is the fleet's own)
  Login       {fleet.USER}   password: {fleet.PASSWORD}
  Remotely    ssh -L {demo.port}:127.0.0.1:{demo.port} root@THIS-MACHINE

Try, from {members.CHECKOUT}:
  export SKERRY_SESSION={_SESSION}
  {command} node list
  {command} vm create second --image {fleet.IMAGE} --memory 128M --explain
  {command} vm serial demo
  {command} pool show Default
  {command} events --follow
  .venv/bin/python -m tests.lab kill {detail.node}   # its power is lost …
  .venv/bin/python -m tests.lab boot {detail.node}   # … and is back

Stop it, leaving nothing of it behind:
  make demo-down
"""


def _remember(recovery_key: str) -> None:
    """Keep the recovery key of the demo's fleet where `rebuild` can be tried."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    if recovery_key:
        path = _FOLDER / "recovery-key"
        path.touch(mode=0o600)
        path.write_text(recovery_key + "\n")


@contextlib.contextmanager
def _step(title: str) -> Iterator[None]:
    """Print the title now, and the time it took when it ends."""
    print(f"{title} …", flush=True)
    begin = time.monotonic()
    yield
    print(f"  done ({time.monotonic() - begin:.1f} s)", flush=True)


if __name__ == "__main__":
    sys.exit(main())
