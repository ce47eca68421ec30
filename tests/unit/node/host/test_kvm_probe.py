"""The probe of KVM: what it concludes, and that it asks only once."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from node.host.kvm_probe import KvmProbe
from node.model.host import KvmFacts
from node.model.ids import NodeId
from node.store import Store
from node.system.command import CommandTimedOut, Result
from tests.fakes.clock import FakeClock
from tests.fakes.command import FakeCommands, Program
from tests.fakes.procfs import FakeProcfs

_SPOKE = Result((), 0, b"[    0.000000] Linux version 6.1.0", b"")
_BROKE = Result((), -6, b"", b"qemu: failed to set MSR\nqemu: assertion\n")


class Qemu:
    """A QEMU of one version, whose guests do as the test says."""

    def __init__(self) -> None:
        self.version = b"QEMU emulator version 7.2.22\n"
        self.outcome = _SPOKE
        self.is_silent = False
        self.boots: list[tuple[str, ...]] = []

    def answer(self, argv: tuple[str, ...], input: bytes | None) -> Result:
        if "--version" in argv:
            return Result(argv, 0, self.version, b"")
        self.boots.append(argv)
        if self.is_silent:
            raise CommandTimedOut("it did not end within 10 s")
        return self.outcome


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "node.db", FakeClock(), NodeId("n"), "boot")
    yield store
    store.close()


@pytest.fixture
def qemu() -> Qemu:
    return Qemu()


def make_probe(
    store: Store,
    qemu: Qemu | None,
    *,
    boot_id: str = "boot",
    existing: Sequence[str] = ("/dev/kvm", "/boot/vmlinuz-6.1.0-test"),
    release: str = "6.1.0-test",
    is_wanted: bool = True,
    kernel: str = "",
) -> KvmProbe:
    programs: dict[str, Program] = {}
    if qemu is not None:
        programs["qemu-system-x86_64"] = qemu.answer
    commands = FakeCommands(programs)
    return KvmProbe(
        store,
        FakeProcfs(existing=list(existing), release=release),
        commands.run,
        commands.first_line,
        boot_id,
        is_wanted=is_wanted,
        kernel=kernel,
    )


def test_probe_believes_a_guest_that_speaks(store: Store, qemu: Qemu) -> None:
    assert make_probe(store, qemu).probe() == KvmFacts(True, _SPOKE.text)


def test_probe_tells_the_first_line_of_the_error(store: Store, qemu: Qemu) -> None:
    qemu.outcome = _BROKE
    facts = make_probe(store, qemu).probe()
    assert facts == KvmFacts(False, "qemu: failed to set MSR")


def test_probe_does_not_believe_a_silent_guest(store: Store, qemu: Qemu) -> None:
    qemu.is_silent = True
    facts = make_probe(store, qemu).probe()
    assert facts == KvmFacts(False, "a guest wrote nothing within 10 s")


@pytest.mark.parametrize(
    ("existing", "is_wanted", "has_qemu", "detail"),
    [
        (("/boot/vmlinuz-1",), True, True, "there is no /dev/kvm"),
        (("/dev/kvm",), True, True, "there is no kernel in /boot to try it with"),
        (("/dev/kvm", "/boot/vmlinuz-1"), False, True, "emulation is set to always"),
        (
            ("/dev/kvm", "/boot/vmlinuz-1"),
            True,
            False,
            "qemu-system-x86_64 cannot be run: No such file or directory",
        ),
    ],
    ids=["no-device", "no-kernel", "not-wanted", "no-qemu"],
)
def test_probe_says_what_is_missing(
    store: Store,
    qemu: Qemu,
    existing: tuple[str, ...],
    is_wanted: bool,
    has_qemu: bool,
    detail: str,
) -> None:
    probe = make_probe(
        store, qemu if has_qemu else None, existing=existing, is_wanted=is_wanted
    )
    assert probe.probe() == KvmFacts(False, detail)
    assert qemu.boots == []


def test_probe_boots_the_running_kernel_if_it_is_there(
    store: Store, qemu: Qemu
) -> None:
    kernels = ("/dev/kvm", "/boot/vmlinuz-5", "/boot/vmlinuz-6", "/boot/vmlinuz-7")
    make_probe(store, qemu, existing=kernels, release="6").probe()
    assert "/boot/vmlinuz-6" in qemu.boots[0]


def test_probe_boots_the_kernel_that_is_configured(store: Store, qemu: Qemu) -> None:
    make_probe(store, qemu, existing=["/dev/kvm"], kernel="/my/kernel").probe()
    assert "/my/kernel" in qemu.boots[0]


@pytest.mark.parametrize("outcome", [_SPOKE, _BROKE], ids=["usable", "unusable"])
def test_probe_remembers_the_result(store: Store, qemu: Qemu, outcome: Result) -> None:
    qemu.outcome = outcome
    facts = [make_probe(store, qemu).probe() for _ in range(2)]
    assert facts[0] == facts[1]
    assert len(qemu.boots) == 1


@pytest.mark.parametrize("changed", ["boot", "kernel", "qemu"])
def test_probe_asks_anew_when_something_changed(
    store: Store, qemu: Qemu, changed: str
) -> None:
    make_probe(store, qemu).probe()
    boot_id, release = "boot", "6.1.0-test"
    if changed == "boot":
        boot_id = "another"
    elif changed == "kernel":
        release = "6.2.0-test"
    else:
        qemu.version = b"QEMU emulator version 10.0.0\n"
    make_probe(store, qemu, boot_id=boot_id, release=release).probe()
    assert len(qemu.boots) == 2


def test_facts_are_cautious_until_the_probe_has_ended(store: Store, qemu: Qemu) -> None:
    probe = make_probe(store, qemu)
    ended = threading.Event()
    before = probe.facts()
    probe.start(ended.set)
    assert ended.wait(30)
    assert (before.is_usable, probe.facts().is_usable) == (False, True)
