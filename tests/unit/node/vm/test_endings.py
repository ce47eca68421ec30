"""What QEMU's log says about the end of a run."""

import pytest

from node.model.vm import EndCause, VmEnd, Wanted
from node.vm import endings
from node.vm.endings import Trace

_NOW = "2026-11-22T09:00:00.000Z"
_AT = "2026-11-22T08:05:00.123Z"
_START = "2026-11-22 08:00:00.000+0000: starting up libvirt version: 11.3.0\n"
_LINE = "2026-11-22 08:05:00.123+0000: shutting down, reason="
_OLD = "2026-11-21 08:05:00.123+0000: shutting down, reason=crashed\n"
_SIGTERM = (
    "2026-11-22T08:04:59.1Z qemu-system-x86_64: terminating on signal 15 from pid "
)


@pytest.mark.parametrize(
    ("log", "trace"),
    [
        pytest.param("", Trace(), id="no-log"),
        pytest.param(_START, Trace(), id="runs"),
        pytest.param(_START + _LINE + "shutdown\n", Trace("shutdown", _AT), id="ended"),
        pytest.param(_OLD + _START, Trace(), id="older-run-ended"),
        pytest.param(_OLD, Trace(), id="older-run-only"),
        pytest.param(
            _START + "x qemu-system-x86_64: no space\n" + _LINE + "crashed\n",
            Trace("crashed", _AT, "no space"),
            id="last-words",
        ),
        pytest.param(
            "cut in the middle\n" + _LINE + "destroyed",
            Trace("destroyed", _AT),
            id="start-is-cut-off",
        ),
    ],
)
def test_read_log_believes_the_newest_run_only(log: str, trace: Trace) -> None:
    assert endings.read_log(log, "2026-11-22T08:00:00.000Z") == trace


@pytest.mark.parametrize(
    ("trace", "told", "wanted", "end"),
    [
        pytest.param(
            Trace("shutdown", _AT),
            "shutdown",
            "up",
            VmEnd(EndCause.GUEST, _AT, "libvirt: shutdown"),
            id="guest",
        ),
        pytest.param(
            Trace("shutdown", _AT),
            "",
            "down",
            VmEnd(EndCause.ADMINISTRATOR, _AT, "libvirt: shutdown"),
            id="administrator",
        ),
        pytest.param(
            Trace("destroyed", _AT),
            "destroyed",
            "down",
            VmEnd(EndCause.KILLED, _AT, "libvirt: destroyed"),
            id="destroyed",
        ),
        pytest.param(
            Trace("shutdown", _AT, "terminating on signal 15 from pid 7 (kill)"),
            "",
            "up",
            VmEnd(EndCause.KILLED, _AT, "terminating on signal 15 from pid 7 (kill)"),
            id="signal",
        ),
        pytest.param(
            Trace("crashed", _AT, "terminating on signal 15 from pid 7 (kill)"),
            "",
            "up",
            VmEnd(EndCause.KILLED, _AT, "terminating on signal 15 from pid 7 (kill)"),
            id="signal-while-libvirt-was-down",
        ),
        pytest.param(
            Trace("crashed", _AT, "assertion failed"),
            "failed",
            "up",
            VmEnd(EndCause.CRASHED, _AT, "assertion failed"),
            id="crashed",
        ),
        pytest.param(
            Trace(),
            "failed",
            "up",
            VmEnd(EndCause.CRASHED, _NOW, "QEMU vanished without a word"),
            id="event-only",
        ),
        pytest.param(
            Trace(),
            "",
            "up",
            VmEnd(EndCause.UNKNOWN, _NOW, "no trace of its end"),
            id="no-trace",
        ),
        pytest.param(
            Trace("unknown", _AT),
            "",
            "up",
            VmEnd(EndCause.UNKNOWN, _AT, "unknown"),
            id="libvirt-does-not-know",
        ),
    ],
)
def test_explain_names_the_cause(
    trace: Trace, told: str, wanted: str, end: VmEnd
) -> None:
    assert endings.explain(trace, told, Wanted(wanted), _NOW) == end


def test_explain_takes_libvirts_own_signal_for_no_killer() -> None:
    log = _START + _SIGTERM + "54 (/usr/sbin/libvirtd)\n" + _LINE + "shutdown\n"
    trace = endings.read_log(log, None)
    assert endings.explain(trace, "", Wanted.UP, _NOW).cause is EndCause.GUEST


def test_explain_takes_sanlocks_signal_for_the_loss_of_the_lease() -> None:
    log = _START + _SIGTERM + "9 (sanlock)\n" + _LINE + "shutdown\n"
    trace = endings.read_log(log, None)
    assert endings.explain(trace, "", Wanted.UP, _NOW).cause is EndCause.LEASE_LOST


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        pytest.param("crashed", EndCause.LEASE_LOST, id="killed-without-a-word"),
        pytest.param("", EndCause.LEASE_LOST, id="while-nobody-looked"),
        pytest.param("shutdown", EndCause.GUEST, id="the-guest-itself"),
        pytest.param("destroyed", EndCause.KILLED, id="by-us"),
    ],
)
def test_explain_knows_that_leases_are_lost(reason: str, cause: EndCause) -> None:
    trace = Trace(reason, _AT)
    end = endings.explain(trace, "", Wanted.UP, _NOW, has_lost_lease=True)
    assert end.cause is cause
