"""Read and write bundles of hooks: an archive of scripts, and who signed it.

    {"schema": 1, "name": "smbios", "version": "1",
     "archive": "<base64 of a tar>", "signatures": [{"key": "<sha256>", "value": "…"}]}

The tar has a folder for each hook point with its scripts, and beside them what people
and sudo read: README.md, properties.json, sudoers. An Ed25519 signature is over name,
version and archive; a key is called by the SHA-256 of its raw bytes. Pure.
"""

import base64
import binascii
import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from node import wire
from node.errors import Denied, Error, Invalid
from node.model.hooks import HookPoint

ARCHIVE_MAX: Final = 512 * 1024  # a sample has 10 KiB
FILES_MAX: Final = 100
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_BESIDE: Final = frozenset({"README.md", "properties.json", "sudoers"})
_POINTS: Final = frozenset(each.value for each in HookPoint)
_PURPOSE: Final = b"skerry hook bundle"


class BadBundle(Invalid):
    """The file is no bundle of hooks, or holds what none may hold."""

    code = "bad_hook_bundle"
    remedy = "Make it anew with `skerry-node hooks pack`."


class BadKey(Invalid):
    """The text is no key that can sign bundles, or tell who did."""

    code = "bad_hook_key"
    remedy = (
        "`openssl genpkey -algorithm ed25519 -out key.pem` makes one, and "
        "`openssl pkey -in key.pem -pubout` shows its public half."
    )


class BundleUnsigned(Denied):
    """Nobody who is known has signed the bundle."""

    code = "hook_bundle_unsigned"
    remedy = "Sign it with a key that is known here, or install it with --unsigned."


@dataclass(frozen=True, slots=True)
class Signature:
    key: str
    value: str  # base64


@dataclass(frozen=True, slots=True)
class Bundle:
    name: str
    version: str
    archive: str
    signatures: tuple[Signature, ...] = ()
    schema: int = 1


def read(text: bytes) -> tuple[Bundle, Mapping[PurePosixPath, bytes]]:
    """Return a bundle and its files by path; BadBundle."""
    try:
        bundle = wire.decode(Bundle, text)
    except Error as error:
        raise BadBundle(f"it is no bundle: {error}") from error
    if not _NAME.fullmatch(bundle.name) or not _NAME.fullmatch(bundle.version):
        raise BadBundle("its name or version is none")
    return bundle, _files(_decode(bundle.archive))


def write(
    name: str,
    version: str,
    files: Mapping[PurePosixPath, bytes],
    keys: Iterable[Ed25519PrivateKey] = (),
) -> bytes:
    """Return a bundle with these files, signed with these keys; BadBundle."""
    archive = _pack(files)
    _files(archive)
    text = base64.b64encode(archive).decode()
    bundle = Bundle(name, version, text)
    signatures = tuple(
        Signature(
            key_id(key.public_key()),
            base64.b64encode(key.sign(_signed(bundle))).decode(),
        )
        for key in keys
    )
    made = wire.encode(Bundle(name, version, text, signatures))
    read(made)
    return made


def signer(bundle: Bundle, keys: Iterable[str]) -> str:
    """Return which of the known keys, each in PEM, has signed a bundle.

    BundleUnsigned: none has. BadBundle: a known key's signature is over other bytes.
    BadKey.
    """
    known = {key_id(key): key for key in map(public_key, keys)}
    for each in bundle.signatures:
        key = known.get(each.key)
        if key is None:
            continue
        try:
            key.verify(_decode(each.value), _signed(bundle))
        except InvalidSignature as error:
            raise BadBundle(
                f"it was changed after key {each.key[:16]} had signed it"
            ) from error
        return each.key
    raise BundleUnsigned(f"bundle {bundle.name} has no signature of a known key")


def public_key(text: str) -> Ed25519PublicKey:
    """Return a public key from its PEM; BadKey."""
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey("that is no public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BadKey("that is a key, and no Ed25519 one")
    return key


def private_key(text: str) -> Ed25519PrivateKey:
    """Return a private key from its PEM, which has no password; BadKey."""
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey("that is no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey("that is a key, and no Ed25519 one")
    return key


def key_id(key: Ed25519PublicKey) -> str:
    """Return what a key is called."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def is_script(path: PurePosixPath) -> bool:
    """Tell whether a file runs, or is only read."""
    return len(path.parts) > 1


def _signed(bundle: Bundle) -> bytes:
    """Return what is signed: no part can be taken for another."""
    words = (_PURPOSE, bundle.name.encode(), bundle.version.encode())
    return b"\n".join((*words, _decode(bundle.archive)))


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadBundle("it is no base64") from error


def _files(archive: bytes) -> Mapping[PurePosixPath, bytes]:
    """Return the files of an archive; BadBundle for anything else in it."""
    if len(archive) > ARCHIVE_MAX:
        raise BadBundle(f"its archive has more than {ARCHIVE_MAX >> 10} KiB")
    found: dict[PurePosixPath, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for entry in tar:
                path = _path(entry)
                if path in found or len(found) >= FILES_MAX:
                    raise BadBundle(f"it has {path} twice, or too many files")
                data = tar.extractfile(entry)
                assert data is not None, "it is a regular file"
                found[path] = data.read(ARCHIVE_MAX)
    except tarfile.TarError as error:
        raise BadBundle(f"its archive cannot be read: {error}") from error
    if not any(map(is_script, found)):
        raise BadBundle("it has no scripts")
    return found


def _path(entry: tarfile.TarInfo) -> PurePosixPath:
    """Return where a file of an archive belongs; BadBundle: nowhere."""
    path = PurePosixPath(entry.name)
    if entry.name != str(path) or not entry.isreg() or path.is_absolute():
        raise BadBundle(f"{entry.name!r:.80} is no plain file")
    is_beside = entry.name in _BESIDE
    is_hook = len(path.parts) == 2 and path.parts[0] in _POINTS
    if not is_beside and not (is_hook and _NAME.fullmatch(path.name)):
        raise BadBundle(f"{entry.name!r:.80} is no script of a point")
    return path


def _pack(files: Mapping[PurePosixPath, bytes]) -> bytes:
    """Return a tar: the same files give the same bytes."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(files):
            entry = tarfile.TarInfo(str(path))
            entry.size = len(files[path])
            entry.mode = 0o755 if is_script(path) else 0o644
            tar.addfile(entry, io.BytesIO(files[path]))
    return output.getvalue()
