"""Boot the image from each medium, by each firmware, to an agent that answers."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from tests.image import machine
from tests.image.machine import Firmware, Medium

pytestmark = pytest.mark.image

ALL = [(medium, firmware) for medium in Medium for firmware in Firmware]
SHORT = [(Medium.CD, Firmware.BIOS), (Medium.USB, Firmware.UEFI)]
WAYS = ALL if os.environ.get("SKERRY_ALL_BOOTS") else SHORT


@pytest.mark.parametrize(("medium", "firmware"), WAYS)
def test_image_boots_to_an_agent_that_answers(
    image: Path, medium: Medium, firmware: Firmware
) -> None:
    with machine.on(image, medium, firmware) as booted:
        ready_s = booted.wait_for("Skerry is ready after")
        assert machine.until(lambda: shown(booted) is not None, 30.0)
        # Who admits it compares what the console shows with what is answered.
        answered = hashlib.sha256(booted.certificate()).hexdigest()
        assert answered == shown(booted)
        inside = re.search(r"ready after (\d+) s", booted.console)
    assert inside is not None
    print(f"{medium}, {firmware}: ready after {ready_s:.0f} s, {inside[1]} s inside")


def shown(booted: machine.Machine) -> str | None:
    """Return the fingerprint that a console shows, which it does in groups."""
    found = re.search(r"fingerprint, to be compared.*\r?\n([0-9a-f ]+)", booted.console)
    return found[1].replace(" ", "") if found else None
