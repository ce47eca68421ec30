"""Test wdmd's rules: when the device is pinged, closed, and when it fires."""

import pytest

from tests.lab import wdmd

SPEED_OFFSET_S = 1000.0  # what the client's clock shows beyond "now"
RENEWED_S, EXPIRES_S = 1000, 1024  # io_timeout 3: a lease fails after 24 s


def message(
    command: int, *, renewal: int = 0, expiry: int = 0, name: str = ""
) -> bytes:
    return wdmd.HEADER.pack(0, command, 0, 0, 0, 0, 0, renewal, expiry, name.encode())


def daemon(*, expiry: int = 0) -> wdmd.Wdmd:
    """Return a daemon at 0 s with one client, which renewed at 0 s."""
    made = wdmd.Wdmd(last_ping_s=0.0, next_test_s=0.0)
    made.clients[1] = wdmd.Client(wdmd.Clock(SPEED_OFFSET_S))
    if expiry:
        said = message(wdmd.Command.TEST_LIVE, renewal=RENEWED_S, expiry=expiry)
        made.answer(1, said, 0.0)
    return made


def run(made: wdmd.Wdmd, until_s: float) -> float:
    """Test whenever it is time; return when the device would fire."""
    while made.next_test_s <= until_s:
        made.test(made.next_test_s)
    return made.fires_at_s


def test_header_is_as_long_as_that_of_libwdmd() -> None:
    assert wdmd.HEADER.size == 176


def test_register_names_the_client() -> None:
    made = daemon()
    assert made.answer(1, message(wdmd.Command.REGISTER, name="sanlock_LS:1"), 0) == b""
    assert made.clients[1].name == "sanlock_LS:1"


def test_status_tells_the_timeout_that_sanlock_demands() -> None:
    reply = daemon().answer(1, message(wdmd.Command.STATUS), 0)
    assert wdmd.HEADER.unpack(reply)[4:7] == (10, 60, 0)


@pytest.mark.parametrize(
    ("asked", "granted"), [(60, 60), (25, 0)], ids=["the one", "another"]
)
def test_open_watchdog_grants_one_timeout(asked: int, granted: int) -> None:
    said = wdmd.HEADER.pack(0, wdmd.Command.OPEN_WATCHDOG, 0, 0, 0, asked, 0, 0, 0, b"")
    assert wdmd.HEADER.unpack(daemon().answer(1, said, 0))[5] == granted


def test_device_is_pinged_every_10_s_while_nothing_expires() -> None:
    assert run(daemon(), 45.0) == 40.0 + 60.0


@pytest.mark.parametrize(
    ("expiry", "fires_at"),
    # Tests at 0, 10, 20, …: the first one within 10 s of the expiry is the last ping.
    [(EXPIRES_S, 20 + 60), (1020, 10 + 60), (1021, 20 + 60), (1060, 50 + 60)],
    ids=["within", "exactly 10 s before", "just not yet", "late"],
)
def test_device_fires_50_to_60_s_after_the_expiry(expiry: int, fires_at: int) -> None:
    assert run(daemon(expiry=expiry), 200.0) == fires_at
    assert 50 <= fires_at - (expiry - SPEED_OFFSET_S) <= 60


def test_device_stays_closed_while_it_fails() -> None:
    made = daemon(expiry=EXPIRES_S)
    run(made, 20.0)
    assert not made.is_open
    assert made.next_test_s == 20.0 + wdmd.RECOVERY_INTERVAL_S
    assert run(made, 70.0) == 80.0


def test_renewal_in_time_opens_the_device_again() -> None:
    made = daemon(expiry=EXPIRES_S)
    run(made, 60.0)
    said = message(wdmd.Command.TEST_LIVE, renewal=1060, expiry=1084)
    made.answer(1, said, 60.5)
    assert run(made, 61.0) == 61.0 + 60.0
    assert made.is_open


def test_device_is_pinged_again_when_the_expiry_is_taken_back() -> None:
    made = daemon(expiry=EXPIRES_S)
    run(made, 60.0)
    made.answer(1, message(wdmd.Command.TEST_LIVE), 60.5)
    assert run(made, 200.0) > 200.0


def test_close_forgets_a_client_without_expiry() -> None:
    made = daemon()
    made.close(1)
    assert made.clients == {}


def test_device_fires_when_a_client_died_and_left_an_expiry() -> None:
    made = daemon(expiry=EXPIRES_S)
    made.close(1)
    assert run(made, 200.0) == 80.0
    assert made.culprit(80.0).expire_s == EXPIRES_S


def test_one_client_fails_for_all() -> None:
    made = daemon(expiry=EXPIRES_S)
    made.clients[2] = wdmd.Client(wdmd.Clock(SPEED_OFFSET_S))
    healthy = message(wdmd.Command.TEST_LIVE, renewal=1000, expiry=9000)
    made.answer(2, healthy, 0.0)
    assert run(made, 70.0) == 80.0


class TestClock:
    def test_offset_is_the_start_s_until_a_renewal_is_seen(self) -> None:
        clock = wdmd.Clock(1000.0)
        clock.learn(900, 0.0)  # the first message tells of long ago
        assert clock.offset_s == 1000.0

    def test_offset_is_bound_by_renewals_when_the_start_took_long(self) -> None:
        clock = wdmd.Clock(1010.0)
        for renewal, now in [(900, 0.0), (1006, 6.3), (1012, 12.2), (1018, 18.9)]:
            clock.learn(renewal, now)
        assert clock.offset_s == pytest.approx(1012 - 12.2 + 1)

    def test_offset_stays_when_a_renewal_arrives_late(self) -> None:
        clock = wdmd.Clock(1000.0)
        for renewal, now in [(900, 0.0), (1006, 6.0), (1012, 40.0)]:
            clock.learn(renewal, now)
        assert clock.offset_s == 1000.0
