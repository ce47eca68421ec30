"""Only the recovery key opens, and only who has the writing secret seals."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.fleet import sealing
from node.log import Secret
from node.model.fleet import SealedFleet
from node.model.ids import FleetId

FLEET = FleetId("0f1e2d3c-0000-4000-8000-000000000001")
RECOVERY_KEY = Secret("ABCD-" * 12 + "ABCA")
KEY = sealing.sealing_key(RECOVERY_KEY)
SEALED = sealing.seal(KEY, FLEET, 2, 7, b"text")


@settings(max_examples=20)
@given(st.binary(max_size=2000))
def test_unseal_returns_what_was_sealed(text: bytes) -> None:
    sealed = sealing.seal(KEY, FLEET, 1, 1, text)
    assert sealing.unseal(RECOVERY_KEY, sealed) == text


def test_unseal_reads_a_copy_that_an_older_version_wrote() -> None:
    """The golden copy: who changes the format must read this for ever."""
    golden = SealedFleet(FLEET, 2, 7, GOLDEN)
    assert sealing.unseal(RECOVERY_KEY, golden) == b"golden text"


def test_unseal_takes_the_key_as_people_type_it() -> None:
    typed = Secret(f" {RECOVERY_KEY.reveal().lower().replace('-', ' ')}\n")
    assert sealing.unseal(typed, SEALED) == b"text"


def test_unseal_refuses_another_recovery_key() -> None:
    with pytest.raises(sealing.SealRefused):
        sealing.unseal(sealing.make_recovery_key(), SEALED)


@pytest.mark.parametrize(
    "altered",
    [
        replace(SEALED, fleet_id=FleetId("other")),
        replace(SEALED, term=3),
        replace(SEALED, version=8),
        replace(SEALED, ciphertext=SEALED.ciphertext[:40]),
        replace(SEALED, ciphertext=""),
        replace(SEALED, ciphertext="no base64!"),
    ],
    ids=["fleet", "term", "version", "cut-off", "empty", "no-base64"],
)
def test_unseal_refuses_what_was_altered(altered: SealedFleet) -> None:
    with pytest.raises(sealing.SealRefused):
        sealing.unseal(RECOVERY_KEY, altered)


@settings(max_examples=50)
@given(st.integers(0, 101), st.integers(1, 255))
def test_unseal_refuses_every_changed_byte(at: int, change: int) -> None:
    blob = bytearray(base64.b64decode(SEALED.ciphertext))
    blob[at % len(blob)] ^= change
    altered = replace(SEALED, ciphertext=base64.b64encode(blob).decode())
    with pytest.raises(sealing.SealRefused):
        sealing.unseal(RECOVERY_KEY, altered)


def test_unseal_refuses_who_has_only_the_public_key() -> None:
    forged_key = replace(KEY, writing_secret=base64.b64encode(b"0" * 32).decode())
    forged = sealing.seal(forged_key, FLEET, 1, 1, b"forged")
    with pytest.raises(sealing.SealRefused):
        sealing.unseal(RECOVERY_KEY, forged)


def test_make_recovery_key_is_fresh_and_readable() -> None:
    first, second = sealing.make_recovery_key(), sealing.make_recovery_key()
    assert first != second
    groups = first.reveal().split("-")
    assert [len(group) for group in groups] == [4] * 13


@pytest.mark.parametrize("text", ["", "ABCD", "0189-" * 12 + "ABCA", "ABCD-" * 14])
def test_sealing_key_refuses_what_is_no_recovery_key(text: str) -> None:
    with pytest.raises(sealing.BadRecoveryKey):
        sealing.sealing_key(Secret(text))


GOLDEN = (
    "U0tTRgEEqSY6FmJBiJQnxq+uH/HhXuVzeHZQklMDwKTdu4lc0DyiJJUk1YN72Fw5ugbLK2yz"
    "pEYtBj9leACr0P90VY4Qv1+sOYbH4REKlZ61NIWDN4npBk/u6MSul6GEFzdRwTgLK86A5SBC"
    "o+Xywj4nRnul"
)
