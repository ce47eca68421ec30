"""Which custom properties may be declared, and what values VMs may have of them."""

from dataclasses import replace

import pytest
from immutables import Map

from aggregator.policies import properties
from aggregator.policies.properties import (
    PREDEFINED,
    BadHelp,
    BadPattern,
    BadPropertyValue,
    Declaration,
    Level,
    UndeclaredProperty,
)
from node import wire
from node.errors import Invalid
from node.model.ids import NicId
from node.model.properties import CustomProperty
from node.model.templates import Template
from node.model.vm import Nic
from node.policy import properties as names
from node.policy.properties import BadProperty, NoSuchDevice
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import say, view_of
from tests.unit.aggregator.federation.test_templates_draft import managed, told

_CARD = Nic(NicId("card"), "nic1", "52:54:00:00:00:01", "lan")
_PINCPU = Declaration(Level.VM, "pincpu", r"^[\^]?\d+(-\d+)?(,[\^]?\d+(-\d+)?)*$")
_SPOOF = Declaration(Level.NIC, "macspoof", "true|false")
_DECLARED = properties.all_of([_SPOOF, _PINCPU])
_ONE = CustomProperty("pincpu", "1-4,^3")
_BAD = CustomProperty("pincpu", "all")
_STRAY = CustomProperty("floppy", "/a.vfd")


def test_predefined_names_are_those_that_documents_of_ovirt_keep_apart() -> None:
    known = names.PREDEFINED - {"mdev_type"}  # oVirt's own, of mediated devices
    assert {each.name for each in PREDEFINED} == known


@pytest.mark.parametrize("declaration", PREDEFINED, ids=lambda each: each.name)
def test_predefined_properties_may_be_declared(declaration: Declaration) -> None:
    properties.check_declaration(declaration)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sap_agent", "true"),
        ("sndbuf", "0"),
        ("vhost", "ovirtmgmt:false,lan-2:true"),
        ("viodiskcache", "writethrough"),
        ("hugepages", "1048576"),
        ("scsi_hostdev", "scsi_block"),
        ("nvram_template", "/usr/share/OVMF/vars.fd"),
        ("extra_cpu_flags", "+vmx,-mpx,sap"),
    ],
)
def test_predefined_patterns_allow_what_ovirt_does(name: str, value: str) -> None:
    wanted = [CustomProperty(name, value)]
    assert properties.complaints(_DECLARED, Level.VM, wanted) == {}
    assert properties.complaints(_DECLARED, Level.VM, [CustomProperty(name, "\n")])


def test_all_of_is_in_order_of_levels_and_names() -> None:
    names = [name for _, name in _DECLARED]
    assert names == [*sorted(["pincpu", *(e.name for e in PREDEFINED)]), "macspoof"]


def test_nothing_declared_takes_the_place_of_what_is_predefined() -> None:
    wider = Declaration(Level.VM, "sndbuf", ".*")
    assert properties.all_of([wider])[Level.VM, "sndbuf"].pattern == "^[0-9]+$"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"name": "LD_PRELOAD"}, BadProperty, id="harmful"),
        pytest.param({"name": "pin-cpu"}, BadProperty, id="no-identifier"),
        pytest.param({"pattern": ""}, BadPattern, id="empty"),
        pytest.param({"pattern": "(a"}, BadPattern, id="broken"),
        pytest.param({"pattern": "a{99999999999}"}, BadPattern, id="overflow"),
        pytest.param({"pattern": "a" * 1025}, BadPattern, id="long"),
        pytest.param({"help": "a" * 1025}, BadHelp, id="long-help"),
    ],
)
def test_check_declaration_refuses(
    changes: dict[str, str], error: type[Invalid]
) -> None:
    with pytest.raises(error):
        properties.check_declaration(replace(_PINCPU, **changes))  # type: ignore[arg-type]  # the cases name text fields only


def test_check_names_property_value_and_pattern() -> None:
    with pytest.raises(BadPropertyValue) as caught:
        properties.check(_DECLARED, Level.VM, [_BAD])
    for part in ("pincpu", "'all'", _PINCPU.pattern):
        assert part in str(caught.value)
    assert caught.value.fields["name"] == "pincpu"


@pytest.mark.parametrize("value", ["1-4 ", " 1", "1\n", "1,", "x1"])
def test_check_matches_whole_values(value: str) -> None:
    with pytest.raises(Invalid):
        properties.check(_DECLARED, Level.VM, [CustomProperty("pincpu", value)])


def test_check_knows_levels_apart() -> None:
    spoof = [CustomProperty("macspoof", "true")]
    properties.check(_DECLARED, Level.NIC, spoof)
    with pytest.raises(UndeclaredProperty, match="macspoof of a VM"):
        properties.check(_DECLARED, Level.VM, spoof)


def test_check_lets_be_what_was_there() -> None:
    properties.check(_DECLARED, Level.VM, [_ONE, _BAD][1:], known=[_BAD])
    properties.check(_DECLARED, Level.VM, [_STRAY], known=[_STRAY])


def test_complaints_are_one_for_each_property() -> None:
    found = properties.complaints(_DECLARED, Level.VM, [_BAD, _STRAY])
    assert {name: type(each) for name, each in found.items()} == {
        "pincpu": BadPropertyValue,
        "floppy": UndeclaredProperty,
    }


def test_check_all_looks_at_devices() -> None:
    card = replace(_CARD, custom_properties=(CustomProperty("macspoof", "1"),))
    with pytest.raises(BadPropertyValue):
        properties.check_all(_DECLARED, replace(fleet.spec(1), nics=(card,)))


def test_check_all_lets_be_what_the_template_has() -> None:
    template = replace(fleet.spec(1), custom_properties=(_STRAY,))
    made = replace(template, custom_properties=(_ONE, _STRAY))
    properties.check_all(_DECLARED, made, template)
    with pytest.raises(UndeclaredProperty):
        properties.check_all(_DECLARED, made)


def test_check_change_finds_the_level_of_a_device() -> None:
    spec = replace(fleet.spec(1), nics=(_CARD,))
    spoof = [CustomProperty("macspoof", "true")]
    properties.check_change(_DECLARED, spec, _CARD.nic_id, spoof)
    with pytest.raises(UndeclaredProperty):
        properties.check_change(_DECLARED, spec, None, spoof)
    with pytest.raises(NoSuchDevice):
        properties.check_change(_DECLARED, spec, "none", spoof)


def test_users_are_vms_that_have_it_at_that_level() -> None:
    card = replace(_CARD, custom_properties=(_ONE,))
    view = say(
        view_of(1),
        1,
        fleet.vm(2, "db", spec=replace(fleet.spec(2, "db"), custom_properties=(_ONE,))),
        fleet.vm(3, "pincpu"),
        fleet.vm(4, "x", spec=replace(fleet.spec(4, "x"), nics=(card,))),
    )
    assert properties.users(view, Level.VM, "pincpu") == ["db"]
    assert properties.users(view, Level.NIC, "pincpu") == ["x"]
    assert properties.users(view, Level.NETWORK, "pincpu") == []


def test_users_are_templates_too() -> None:
    row = told(managed())
    kept = Template(
        row.template_id, replace(fleet.spec(7), custom_properties=(_ONE,)), 1, fleet.AT
    )
    row = replace(row, document=wire.encode(kept))
    view = replace(managed(), templates=Map({row.template_id: row}))
    assert properties.users(view, Level.VM, "pincpu") == ["debian"]


def test_needed_hooks_are_those_of_a_vm_and_its_devices() -> None:
    start, plug = "before_vm_start/50_pincpu", "before_device_create/50_macspoof"
    declared = properties.all_of(
        [replace(_PINCPU, needs_hook=start), replace(_SPOOF, needs_hook=plug)]
    )
    spoof = CustomProperty("macspoof", "true")
    card = replace(_CARD, custom_properties=(spoof,))
    bare = fleet.spec(1, nics=(_CARD,), custom_properties=(_STRAY,))
    both = fleet.spec(1, nics=(card,), custom_properties=(_ONE,))
    assert properties.needed_hooks(declared, bare) == ()
    assert properties.needed_hooks(declared, both) == (plug, start)
    assert properties.needed_hooks(_DECLARED, both) == ()


@pytest.mark.parametrize(
    "hook", ["50_pincpu", "/x", "before_vm_start/", "before_vm_start/a/b", "none/x"]
)
def test_check_declaration_refuses_what_is_no_hook(hook: str) -> None:
    with pytest.raises(properties.BadNeededHook):
        properties.check_declaration(replace(_PINCPU, needs_hook=hook))


def test_check_declaration_refuses_a_hook_of_networks() -> None:
    wanted = Declaration(Level.NETWORK, "x", ".*", needs_hook="before_vm_start/x")
    with pytest.raises(properties.BadNeededHook):
        properties.check_declaration(wanted)
