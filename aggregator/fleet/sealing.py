"""Seal the fleet's documents so that only the recovery key opens them.

Pure but for randomness that is passed in or fresh. The aggregator keeps a
public key and a writing secret, both derived from the recovery key: with them
it can seal and cannot open, and nobody else can seal what opens.

    0      4    5                   70         82
    +------+----+-------------------+----------+---------------------------+
    | SKSF | 01 | ephemeral P-256   | nonce    | AES-256-GCM of the text,  |
    |      |    | key, uncompressed | 12 bytes | with its tag of 16 bytes  |
    +------+----+-------------------+----------+---------------------------+

Source: docs/formats/sealed-fleet.md.
"""

import base64
import binascii
import os
import zlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from node.errors import Denied, Invalid
from node.log import Secret
from node.model.fleet import SealedFleet
from node.model.ids import FleetId
from node.units import MiB

RECOVERY_KEY_BYTES: Final = 32  # 256 bits: it is never changed in a hurry
_GROUP: Final = 4  # letters between dashes: what a person reads out at once
_MAGIC: Final = b"SKSF\x01"
_POINT_BYTES: Final = 65  # an uncompressed point on P-256
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = len(_MAGIC) + _POINT_BYTES + _NONCE_BYTES
# 2,500 members take 2 MiB; whoever sends more than this sends a bomb.
_TEXT_BYTES_MAX: Final = 256 * MiB
# The order of P-256: private keys are 1 … order - 1 (SEC 2, section 2.4.2).
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
# 128 bits more than the order has: the remainder is as good as uniform.
_SCALAR_BYTES: Final = 48


class BadRecoveryKey(Invalid):
    code = "bad_recovery_key"
    remedy = "Type the 13 groups of four that `skerry-aggregator init` printed."


class SealRefused(Denied):
    """The copy was sealed for another recovery key, or was altered."""

    code = "seal_refused"
    remedy = "Check the recovery key, or ask another node for its copy."


@dataclass(frozen=True, slots=True)
class SealingKey:
    """What an aggregator keeps: enough to seal, too little to open."""

    public_key: str  # base64 of the point
    writing_secret: str  # base64 of 32 bytes


def make_recovery_key() -> Secret:
    """Return a fresh recovery key, as it is shown once."""
    text = base64.b32encode(os.urandom(RECOVERY_KEY_BYTES)).decode().rstrip("=")
    groups = [text[at : at + _GROUP] for at in range(0, len(text), _GROUP)]
    return Secret("-".join(groups))


def sealing_key(recovery_key: Secret) -> SealingKey:
    """Return what to keep of a recovery key; BadRecoveryKey if it is none."""
    seed = _seed(recovery_key)
    point = _point(_private_key(seed).public_key())
    secret = _derive(seed, b"", b"skerry sealed fleet: writing secret", 32)
    return SealingKey(
        base64.b64encode(point).decode(), base64.b64encode(secret).decode()
    )


def seal(
    key: SealingKey, fleet_id: FleetId, term: int, version: int, text: bytes
) -> SealedFleet:
    """Return a text that only the recovery key opens."""
    recipient = base64.b64decode(key.public_key)
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    shared = ephemeral.exchange(
        ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, recipient)
    )
    point = _point(ephemeral.public_key())
    cipher = _cipher(shared, key.writing_secret, point, recipient)
    nonce = os.urandom(_NONCE_BYTES)
    sealed = cipher.encrypt(
        nonce, zlib.compress(text), _header(fleet_id, term, version)
    )
    blob = _MAGIC + point + nonce + sealed
    return SealedFleet(fleet_id, term, version, base64.b64encode(blob).decode())


def unseal(recovery_key: Secret, sealed: SealedFleet) -> bytes:
    """Return the sealed text; SealRefused if the key or one bit is wrong."""
    seed = _seed(recovery_key)
    private = _private_key(seed)
    key = sealing_key(recovery_key)
    try:
        blob = base64.b64decode(sealed.ciphertext, validate=True)
        if len(blob) < _HEAD_BYTES or not blob.startswith(_MAGIC):
            raise SealRefused("this is no sealed copy that this version can read")
        point = blob[len(_MAGIC) : len(_MAGIC) + _POINT_BYTES]
        nonce = blob[len(_MAGIC) + _POINT_BYTES : _HEAD_BYTES]
        shared = private.exchange(
            ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, point)
        )
        cipher = _cipher(
            shared, key.writing_secret, point, base64.b64decode(key.public_key)
        )
        header = _header(sealed.fleet_id, sealed.term, sealed.version)
        return _decompress(cipher.decrypt(nonce, blob[_HEAD_BYTES:], header))
    except (InvalidTag, ValueError, binascii.Error, zlib.error) as error:
        raise SealRefused("the recovery key does not open this copy") from error


_CURVE: Final = ec.SECP256R1()


def _seed(recovery_key: Secret) -> bytes:
    text = "".join(recovery_key.reveal().upper().replace("-", " ").split())
    try:
        seed = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error as error:
        raise BadRecoveryKey("the recovery key has a letter that is none") from error
    if len(seed) != RECOVERY_KEY_BYTES:
        raise BadRecoveryKey("the recovery key does not have 52 letters")
    return seed


def _private_key(seed: bytes) -> ec.EllipticCurvePrivateKey:
    wide = _derive(seed, b"", b"skerry sealed fleet: private key", _SCALAR_BYTES)
    scalar = int.from_bytes(wide, "big") % (_ORDER - 1) + 1
    return ec.derive_private_key(scalar, _CURVE)


def _cipher(
    shared: bytes, writing_secret: str, ephemeral: bytes, recipient: bytes
) -> AESGCM:
    salt = base64.b64decode(writing_secret)
    info = b"skerry sealed fleet: text" + ephemeral + recipient
    return AESGCM(_derive(shared, salt, info, 32))


def _derive(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt or None, info).derive(secret)


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def _header(fleet_id: FleetId, term: int, version: int) -> bytes:
    return f"skerry sealed fleet\n{fleet_id}\n{term}\n{version}".encode()


def _decompress(packed: bytes) -> bytes:
    stream = zlib.decompressobj()
    text = stream.decompress(packed, _TEXT_BYTES_MAX)
    if stream.unconsumed_tail or not stream.eof:
        raise SealRefused("the sealed copy is larger than any fleet, or cut off")
    return text
