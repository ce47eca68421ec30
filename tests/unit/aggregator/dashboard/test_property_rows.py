"""Rows of the form of custom properties."""

import pytest

from aggregator.dashboard import property_rows
from aggregator.dashboard.property_rows import Typed
from aggregator.policies import properties as policy
from aggregator.policies.properties import BadPropertyValue, Declaration, Holder, Level
from node.model.properties import CustomProperty

_DECLARED = policy.all_of(
    [
        Declaration(Level.VM, "pincpu", "[0-9-]+", "Where it runs."),
        Declaration(Level.NIC, "macspoof", "^(true|false)$"),
    ]
)
_VM = Holder(Level.VM, None, "web", (CustomProperty("floppy", "/a"),))
_NIC = Holder(Level.NIC, "n1", "nic1", ())
_DISK = Holder(Level.DISK, "d1", "root", ())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^(true|false)$", ("true", "false")),
        ("on|off", ("on", "off")),
        ("^(a-1|b.2)$", ("a-1", "b.2")),
        ("[0-9]+", ()),
        ("^(a|b)+$", ()),
        ("^.*$", ()),
        ("|".join(f"w{number}" for number in range(21)), ()),
    ],
)
def test_choices_are_the_words_that_a_pattern_lists(
    pattern: str, expected: tuple[str, ...]
) -> None:
    assert property_rows.choices(pattern) == expected


def test_read_and_given_take_fields_of_properties() -> None:
    form = {"csrf": "x", "property/b": "2", "property/a": "1", "property/c": ""}
    values = property_rows.read(form)
    assert values == {"a": "1", "b": "2", "c": ""}
    wanted = (CustomProperty("a", "1"), CustomProperty("b", "2"))
    assert property_rows.given(values) == wanted


def test_rows_are_of_what_is_declared_and_what_is_held() -> None:
    held = {"pincpu": "1", "floppy": "/a"}
    found = property_rows.rows(_DECLARED, Level.VM, held)
    names = [each.name for each in found]
    assert (names[-1], found[-1].pattern) == ("floppy", "")
    (row,) = [each for each in found if each.name == "pincpu"]
    assert (row.value, row.help) == ("1", "Where it runs.")


def test_row_with_a_value_that_is_not_offered_is_a_text() -> None:
    held = {"macspoof": "maybe"}
    (row,) = property_rows.rows(_DECLARED, Level.NIC, held)
    assert row.choices == ()


def test_sections_are_of_what_has_or_may_have_some() -> None:
    found = list(property_rows.sections(_DECLARED, [_VM, _NIC, _DISK]))
    assert [each.name for each in found] == ["web", "nic1"]
    keys = [row.key for each in found for row in each.rows]
    assert len(keys) == len(set(keys))


def test_sections_keep_what_was_typed_where_it_was_typed() -> None:
    wrong = BadPropertyValue("no")
    typed = Typed("n1", {"macspoof": "maybe"}, {"macspoof": wrong})
    vm, nic = property_rows.sections(_DECLARED, [_VM, _NIC], typed)
    assert [(each.value, each.complaint) for each in nic.rows] == [("maybe", "no")]
    assert [each.value for each in vm.rows if each.value] == ["/a"]
