"""Write sizes, shares, times and fingerprints so that people read them at once.

Pure. Sizes are bytes, times seconds; a number and its unit stand apart.
"""

from collections.abc import Iterator
from datetime import datetime

from node import clock
from node.units import DAY_S, HOUR_S, MINUTE_S

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_RATE_UNITS = ("B/s", "kB/s", "MB/s", "GB/s")
_DIGITS_PER_GROUP = 4  # what a person holds in mind while looking at a console


def size(size_bytes: int) -> str:
    """Return a size with a unit of 1024s: 512 MiB, 7.5 GiB."""
    return _scaled(size_bytes, 1024, _SIZE_UNITS)


def rate(rate_bps: int) -> str:
    """Return bytes a second with a unit of 1000s: 1.2 MB/s."""
    return _scaled(rate_bps, 1000, _RATE_UNITS)


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    unit = units[0]
    for unit in units:
        # 1023.96 would be written as 1024
        if round(value, 1) < step or unit == units[-1]:
            break
        value /= step
    shown = f"{value:.1f}".removesuffix(".0") if value < 100 else f"{value:.0f}"
    return f"{shown} {unit}"


def count(number: int) -> str:
    """Return a number with its thousands apart: 50,000."""
    return f"{number:,}"


def share(part: float, whole: float) -> int:
    """Return percent, within 0 and 100; 0 of nothing is 0."""
    return min(100, max(0, round(100 * part / whole))) if whole > 0 else 0


def layout(sockets: int, cores: int, threads: int) -> str:
    """Return how CPUs are laid out."""
    return f"{sockets} × {cores} × {threads} (sockets, cores, threads)"


def span(duration_s: float) -> str:
    """Return a duration in its two largest units: 3 d 4 h, 12 min, 5 s."""
    left_s = max(0, int(duration_s))
    if left_s < MINUTE_S:
        return f"{left_s} s"
    if left_s < HOUR_S:
        return f"{left_s // MINUTE_S} min"
    if left_s < DAY_S:
        return _two(left_s // HOUR_S, "h", left_s % HOUR_S // MINUTE_S, "min")
    return _two(left_s // DAY_S, "d", left_s % DAY_S // HOUR_S, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    text = f"{large} {large_unit}"
    return f"{text} {small} {small_unit}" if small else text


def age(moment: str, now: datetime) -> str:
    """Return how long ago a moment was; empty if it is not a moment."""
    try:
        return span((now - clock.parse_rfc3339(moment)).total_seconds())
    except ValueError:
        return ""


def fingerprint_groups(fingerprint: str) -> tuple[str, ...]:
    """Return the digits in groups, to be compared one by one."""
    return tuple(_groups(fingerprint.replace(":", "").lower()))


def _groups(digits: str) -> Iterator[str]:
    for start in range(0, len(digits), _DIGITS_PER_GROUP):
        yield digits[start : start + _DIGITS_PER_GROUP]
