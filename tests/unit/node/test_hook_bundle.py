"""Bundles of hooks: what one may hold, and whose signature counts."""

import base64
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node import hook_bundle
from node.hook_bundle import BadBundle, BadKey, BundleUnsigned

START = "before_vm_start"
SCRIPT = PurePosixPath(START, "50_site")
FILES = {SCRIPT: b"#!/bin/sh\nexit 0\n", PurePosixPath("README.md"): b"# site\n"}
KEY = Ed25519PrivateKey.generate()
PEM = (
    KEY.public_key()
    .public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    .decode()
)
OTHER = Ed25519PrivateKey.generate()


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as made:
        for entry, data in entries:
            entry.size = len(data)
            made.addfile(entry, io.BytesIO(data))
    return output.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type = kind
    made.linkname = "/etc/shadow" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    return made, b"x" if kind == tarfile.REGTYPE else b""


def text(archive: bytes, name: str = "site", version: str = "1") -> bytes:
    packed = base64.b64encode(archive).decode()
    words = {"schema": 1, "name": name, "version": version, "archive": packed}
    return json.dumps(words).encode()


def test_what_was_written_is_read() -> None:
    read, files = hook_bundle.read(hook_bundle.write("site", "1.2", FILES))
    assert (read.name, read.version, files) == ("site", "1.2", FILES)


def test_same_files_are_the_same_bundle() -> None:
    turned = dict(reversed(FILES.items()))
    made = hook_bundle.write("site", "1", FILES)
    assert hook_bundle.write("site", "1", turned) == made


def test_known_key_has_signed() -> None:
    read, _ = hook_bundle.read(hook_bundle.write("site", "1", FILES, [OTHER, KEY]))
    name = hook_bundle.key_id(KEY.public_key())
    assert hook_bundle.signer(read, [PEM]) == name


@pytest.mark.parametrize("keys", [[], [OTHER]])
def test_nobody_known_has_signed(keys: list[Ed25519PrivateKey]) -> None:
    read, _ = hook_bundle.read(hook_bundle.write("site", "1", FILES, keys))
    with pytest.raises(BundleUnsigned):
        hook_bundle.signer(read, [PEM])


@pytest.mark.parametrize("field", ["name", "version", "archive", "value"])
def test_what_was_changed_after_it_was_signed_is_refused(field: str) -> None:
    words = json.loads(hook_bundle.write("site", "1", FILES, [KEY]))
    other = json.loads(
        hook_bundle.write("other", "2", {SCRIPT: b"#!/bin/sh\nreboot\n"}, [KEY])
    )
    if field == "value":
        words["signatures"] = other["signatures"]
    else:
        words[field] = other[field]
    read, _ = hook_bundle.read(json.dumps(words).encode())
    with pytest.raises(BadBundle, match="changed after"):
        hook_bundle.signer(read, [PEM])


def test_text_moved_between_name_and_version_is_another_bundle() -> None:
    made = hook_bundle.write("a.b", "c", FILES, [KEY])
    words = {**json.loads(made), "name": "a", "version": "b.c"}
    read, _ = hook_bundle.read(json.dumps(words).encode())
    with pytest.raises(BadBundle):
        hook_bundle.signer(read, [PEM])


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(b"no tar", id="no-tar"),
        pytest.param(b"", id="empty"),
        pytest.param(tar(entry("README.md")), id="no-scripts"),
        pytest.param(tar(entry(f"{START}/../../x")), id="dots"),
        pytest.param(tar(entry("/before_vm_start/50_a")), id="absolute"),
        pytest.param(tar(entry("./before_vm_start/50_a")), id="not-plain"),
        pytest.param(tar(entry("before_vm_begin/50_a")), id="no-point"),
        pytest.param(tar(entry(f"{START}/.hidden")), id="hidden"),
        pytest.param(tar(entry(f"{START}/a/b")), id="deep"),
        pytest.param(tar(entry(f"{START}/a\nb")), id="line"),
        pytest.param(tar(entry(f"{START}/a", tarfile.SYMTYPE)), id="link"),
        pytest.param(tar(entry(f"{START}/a", tarfile.LNKTYPE)), id="hard-link"),
        pytest.param(tar(entry(f"{START}/a", tarfile.FIFOTYPE)), id="fifo"),
        pytest.param(tar(entry(f"{START}/a", tarfile.CHRTYPE)), id="device"),
        pytest.param(tar(entry(START, tarfile.DIRTYPE)), id="folder"),
        pytest.param(tar(*[entry(f"{START}/a")] * 2), id="twice"),
        pytest.param(tar(*(entry(f"{START}/{n}") for n in range(101))), id="101"),
        pytest.param(
            tar((tarfile.TarInfo(f"{START}/a"), bytes(hook_bundle.ARCHIVE_MAX))),
            id="large",
        ),
        pytest.param(tar(entry(f"{START}/a"))[:700], id="cut"),
    ],
)
def test_what_none_may_hold_is_refused(archive: bytes) -> None:
    with pytest.raises(BadBundle):
        hook_bundle.read(text(archive))


@pytest.mark.parametrize(
    ("name", "version"),
    [("", "1"), ("..", "1"), (".site", "1"), ("a/b", "1"), ("a\nb", "1"), ("a", "")],
)
def test_names_are_plain(name: str, version: str) -> None:
    with pytest.raises(BadBundle):
        hook_bundle.read(text(tar(entry(f"{START}/a")), name, version))
    with pytest.raises(BadBundle):
        hook_bundle.write(name, version, FILES)


@pytest.mark.parametrize("words", [b"", b"{}", b"\xff", b"[]", b'{"archive": "!"}'])
def test_other_files_are_no_bundles(words: bytes) -> None:
    with pytest.raises(BadBundle):
        hook_bundle.read(words)


def test_archive_in_other_letters_is_refused() -> None:
    words = json.loads(text(b""))
    with pytest.raises(BadBundle, match="base64"):
        hook_bundle.read(json.dumps({**words, "archive": "ä!"}).encode())


def _pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> tuple[str, str]:
    encoding = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return private.decode(), key.public_key().public_bytes(encoding, kind).decode()


def test_keys_are_read_from_pem() -> None:
    private, public = _pem(KEY)
    name = hook_bundle.key_id(KEY.public_key())
    assert hook_bundle.key_id(hook_bundle.public_key(public)) == name
    assert hook_bundle.key_id(hook_bundle.private_key(private).public_key()) == name


@pytest.mark.parametrize("read", [hook_bundle.private_key, hook_bundle.public_key])
def test_other_keys_are_refused(read: Callable[[str], object]) -> None:
    for each in (*_pem(ec.generate_private_key(ec.SECP256R1())), "", "\xff"):
        with pytest.raises(BadKey):
            read(each)
