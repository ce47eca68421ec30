"""Keep which custom properties a fleet declares.

What they are: `aggregator.policies.properties`. Part of the fleet's documents, so that
every node keeps a sealed copy.
"""

from collections.abc import Iterable
from typing import Final

from aggregator import db
from aggregator.federation.view import View
from aggregator.policies import properties as policy
from aggregator.policies.properties import Declaration, Declarations, Level
from node import wire
from node.errors import Conflict, NotFound
from node.model.requests import SetProperties
from node.model.templates import Template
from node.model.vm import VmSpec

_PROPERTY: Final = "custom_property/"
_SHOWN: Final = 10  # names of VMs in a message


class PropertyNotFound(NotFound):
    code = "custom_property_not_found"
    remedy = "Check the name; see `skerry property list`."


class PropertyPredefined(Conflict):
    """oVirt's clients rely on it."""

    code = "custom_property_predefined"
    remedy = "Choose another name; what comes with every fleet stays as it is."


class PropertyInUse(Conflict):
    code = "custom_property_in_use"
    remedy = "Take it away from the VMs and templates that the message names first."


class Properties:
    """What people declare. Any thread may call."""

    def __init__(self, database: db.Database) -> None:
        self._records = database.records("fleet")

    def now(self) -> Declarations:
        return read(self._records.list())

    def declare(
        self,
        level: Level,
        name: str,
        pattern: str,
        help: str | None = None,
        needs_hook: str | None = None,
    ) -> Declaration:
        """Declare a property, or declare it anew; VMs keep the values that they have.

        None: as it was declared before. BadProperty, BadPattern, BadHelp,
        BadNeededHook, PropertyPredefined.
        """
        known = self.now().get((level, name))
        _check_own(known)
        before = known or Declaration(level, name, pattern)
        wanted = Declaration(
            *(level, name, pattern, before.help if help is None else help),
            needs_hook=before.needs_hook if needs_hook is None else needs_hook,
        )
        policy.check_declaration(wanted)
        self._records.put(_record(level, name), wire.to_json(wanted))
        return wanted

    def remove(self, view: View, level: Level, name: str) -> None:
        """Forget a property that nothing has.

        PropertyNotFound, PropertyPredefined, PropertyInUse.
        """
        known = self.now().get((level, name))
        if known is None:
            text = f"there is no custom property {name} of a {level.label}"
            raise PropertyNotFound(text, name=name)
        _check_own(known)
        users = policy.users(view, level, name)
        if users:
            more = f" and {len(users) - _SHOWN} others" if len(users) > _SHOWN else ""
            raise PropertyInUse(
                f"custom property {name} is of {', '.join(users[:_SHOWN])}{more}",
                name=name,
            )
        self._records.delete(_record(level, name))

    def check_new(self, view: View, spec: VmSpec) -> None:
        """Refuse a new VM; BadProperty, UndeclaredProperty, BadPropertyValue.

        What its template has it may have as well.
        """
        row = None if spec.template_id is None else view.templates.get(spec.template_id)
        template = None
        if row is not None:
            template = wire.decode(Template, row.document, strict=False).spec
        policy.check_all(self.now(), spec, template)

    def check_change(self, spec: VmSpec, request: SetProperties) -> None:
        """Refuse what a VM is to have; NoSuchDevice, and as `check_new`."""
        wanted = request.custom_properties
        policy.check_change(self.now(), spec, request.device_id, wanted)


def read(records: Iterable[db.Record]) -> Declarations:
    """Return what lies among the fleet's documents. Pure."""
    return policy.all_of(
        wire.from_json(Declaration, each.body, strict=False)
        for each in records
        if each.id.startswith(_PROPERTY)
    )


def _record(level: Level, name: str) -> str:
    return f"{_PROPERTY}{level.value}/{name}"


def _check_own(known: Declaration | None) -> None:
    if known is not None and known.is_predefined:
        text = f"custom property {known.name} comes with every fleet"
        raise PropertyPredefined(text, name=known.name)
