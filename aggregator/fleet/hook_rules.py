"""Keep what a fleet has decided about hooks: who may sign bundles, how strict it is.

Part of the fleet's documents. Members are told of it, and of the custom properties that
are declared, with what else all of them are to know (`Registry.membership`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import serialization

from aggregator import db
from aggregator.federation.events import EventLog
from aggregator.fleet import properties
from aggregator.registry import Origin
from node import hook_bundle, wire
from node.errors import Conflict, Invalid, NotFound
from node.model.fleet import DeclaredProperty, FleetRules, HookKey

_KEY: Final = "hook_key/"
_STRICT: Final = "hooks_are_strict"
NAME_MAX: Final = 64


class HookKeyNotFound(NotFound):
    code = "hook_key_not_found"
    remedy = "See `skerry hook rules` for those that there are."


class HookKeyThere(Conflict):
    code = "hook_key_there"
    remedy = "Choose another name, or remove the key of that name first."


class BadKeyName(Invalid):
    code = "bad_hook_key_name"
    remedy = f"A name has 1 to {NAME_MAX} printable characters."


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key whose signature is enough to install a bundle anywhere in the fleet."""

    name: str
    key_id: str  # SHA-256 of its raw bytes; what bundles name


class HookRules:
    """What is decided about hooks. Any thread may call."""

    def __init__(self, database: db.Database, event_log: EventLog) -> None:
        self._records = database.records("fleet")
        self._events = event_log
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back when members are to be told; it must not block."""
        self._listeners.append(callback)

    def signers(self) -> tuple[SigningKey, ...]:
        """Return who may sign, by name."""
        return tuple(
            SigningKey(each.name, hook_bundle.key_id(hook_bundle.public_key(each.pem)))
            for each in self._kept()
        )

    def is_strict(self) -> bool:
        return self._records.get(_STRICT) is not None

    def add_key(self, name: str, pem: str, origin: Origin) -> SigningKey:
        """Let a key sign; BadKeyName, BadBundle, HookKeyThere."""
        if not name.isprintable() or not 0 < len(name.strip()) <= len(name) <= NAME_MAX:
            raise BadKeyName("that cannot be the name of a key")
        key = hook_bundle.public_key(pem)
        added = SigningKey(name, hook_bundle.key_id(key))
        for known in self.signers():
            if known != added and (name == known.name or added.key_id == known.key_id):
                raise HookKeyThere(
                    f"key {known.key_id[:16]} is known as {known.name}", name=known.name
                )
        text = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._records.put(_KEY + name, wire.to_json(HookKey(name, text.decode())))
        self._note("hook_key_added", origin, name=name, key=added.key_id[:16])
        return added

    def remove_key(self, name: str, origin: Origin) -> None:
        """Let a key sign no more; HookKeyNotFound. What it signed stays installed."""
        if not self._records.delete(_KEY + name):
            raise HookKeyNotFound(f"there is no key {name:.80}", name=name[:80])
        self._note("hook_key_removed", origin, name=name)

    def set_strict(self, origin: Origin, *, is_strict: bool) -> None:
        """Have nodes start no VM that libvirt's schema dislikes after its hooks."""
        if is_strict == self.is_strict():
            return
        if is_strict:
            self._records.put(_STRICT, {})
        else:
            self._records.delete(_STRICT)
        self._note("hooks_strict" if is_strict else "hooks_lenient", origin)

    def of_fleet(self) -> FleetRules:
        """Return what members are told."""
        declared = properties.read(self._records.list()).values()
        return FleetRules(
            tuple(
                DeclaredProperty(each.level.value, each.name, each.pattern)
                for each in declared
            ),
            self._kept(),
            self.is_strict(),
        )

    def _note(self, code: str, origin: Origin, name: str = "", key: str = "") -> None:
        self._events.record(
            code,
            user=origin.user,
            correlation_id=origin.correlation_id,
            name=name,
            key=key,
        )
        for callback in self._listeners:
            callback()

    def _kept(self) -> tuple[HookKey, ...]:
        return tuple(
            wire.from_json(HookKey, each.body, strict=False)
            for each in self._records.list()
            if each.id.startswith(_KEY)
        )
