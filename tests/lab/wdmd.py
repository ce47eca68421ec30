"""Speak as wdmd does, and decide by its rules when a host's watchdog fires.

Pure. Times are sanlock's seconds: the lab's sanlock lives SANLOCK_SPEED times as fast
as the machine. "Now" is the machine's monotonic clock times that speed; a client's
own clock differs from it by a constant, which `Clock` finds.

    0      4    8    12     16              20            24
    │magic │cmd │len │flags │ test interval │ fire timeout │
    24              32             40            48                       176
    │ last keepalive │ renewal time │ expire time │ name, padded with NUL │

The rules, of wdmd 3.8.5 to 4.0: every 10 s, or every second while it fails, it asks
whether any client will expire within 10 s. If none, the device gets a keepalive.
If one will, the device is closed without disarming it, which is its last keepalive,
and stays closed until all is well again. The device fires 60 s after the last one,
so 50 to 60 s after the expiry. A client that closed its connection without taking its
expiry back cannot prevent it any more.
Source: wdmd(8), wdmd/main.c and wdmd/wdmd_sock.h of sanlock.
"""

import enum
import struct
from dataclasses import dataclass, field

TEST_INTERVAL_S = 10
RECOVERY_INTERVAL_S = 1
FIRE_TIMEOUT_S = 60  # sanlock joins no lockspace with another
HEADER = struct.Struct("=6I3Q128s")


class Command(enum.IntEnum):
    """What a client says."""

    REGISTER = 1
    REFCOUNT_SET = 2
    REFCOUNT_CLEAR = 3
    TEST_LIVE = 4
    STATUS = 5
    OPEN_WATCHDOG = 7  # since 3.9: asks for a fire timeout


@dataclass(slots=True)
class Clock:
    """Find what must be added to "now" to read a client's own clock.

    The client's clock began with its process. That is known to the moment of its
    fork, so the sum is too great by what the machine took to start it. A renewal
    cannot be of the future, and each says at once when it was, in whole seconds:
    so the sum is at least, and at most a second more than, the greatest of those.
    """

    from_start_s: float
    from_renewals_s: float | None = None
    messages: int = 0

    def learn(self, renewal_s: int, now_s: float) -> None:
        """Note a message's arrival; the first tells of a renewal long ago."""
        self.messages += 1
        if self.messages > 1:
            seen = renewal_s - now_s
            known = self.from_renewals_s
            self.from_renewals_s = seen if known is None else max(known, seen)

    @property
    def offset_s(self) -> float:
        if self.from_renewals_s is None:
            return self.from_start_s
        return min(self.from_start_s, self.from_renewals_s + 1.0)


@dataclass(slots=True)
class Client:
    """One connection; sanlock makes one for each lockspace."""

    clock: Clock
    name: str = ""
    renewal_s: int = 0  # on the client's clock, as expire_s
    expire_s: int = 0  # 0: nothing to guard

    def left_s(self, now_s: float) -> float:
        """Return how long it has until it expires."""
        return self.expire_s - self.clock.offset_s - now_s


@dataclass(slots=True)
class Wdmd:
    """The daemon and the device of one host, since its boot."""

    last_ping_s: float  # when the device last got a keepalive
    next_test_s: float
    is_open: bool = True
    clients: dict[int, Client] = field(default_factory=dict)

    def answer(self, key: int, message: bytes, now_s: float) -> bytes:
        """Do what a client says; return the reply, which may be empty."""
        fields = list(HEADER.unpack(message))
        client = self.clients[key]
        command = fields[1]
        if command == Command.REGISTER:
            client.name = fields[9].rstrip(b"\0").decode(errors="replace")
        elif command == Command.TEST_LIVE:
            client.renewal_s, client.expire_s = fields[7], fields[8]
            if client.expire_s:
                client.clock.learn(client.renewal_s, now_s)
        elif command == Command.STATUS:
            fields[4:7] = TEST_INTERVAL_S, FIRE_TIMEOUT_S, int(self.last_ping_s)
            return HEADER.pack(*fields)
        elif command == Command.OPEN_WATCHDOG:
            # 0 says no: the device of this lab has one timeout.
            fields[5] = FIRE_TIMEOUT_S if fields[5] == FIRE_TIMEOUT_S else 0
            return HEADER.pack(*fields)
        return b""

    def close(self, key: int) -> None:
        """Forget a client that went, unless it left an expiry behind."""
        if not self.clients[key].expire_s:
            del self.clients[key]

    def test(self, now_s: float) -> bool:
        """Test the clients if it is time; tell whether one fails now."""
        if now_s < self.next_test_s:
            return False
        is_failing = any(
            client.left_s(now_s) <= TEST_INTERVAL_S
            for client in self.clients.values()
            if client.expire_s
        )
        # Closing the device counts as a keepalive, once.
        if not is_failing or self.is_open:
            self.last_ping_s = now_s
        self.is_open = not is_failing
        interval_s = RECOVERY_INTERVAL_S if is_failing else TEST_INTERVAL_S
        self.next_test_s = now_s + interval_s
        return is_failing

    @property
    def fires_at_s(self) -> float:
        return self.last_ping_s + FIRE_TIMEOUT_S

    def culprit(self, now_s: float) -> Client:
        """Return the client that expires, or expired, first."""
        guarded = [each for each in self.clients.values() if each.expire_s]
        return min(guarded, key=lambda each: each.left_s(now_s))
