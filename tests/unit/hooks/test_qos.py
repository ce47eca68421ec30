"""qos: limits of cards that are named by their MAC addresses."""

from pathlib import Path

import pytest

from tests.unit.hooks import scene

_BOTH = "in{'average':'1','peek':'2','burst':'5'}^out{'average':'1'}"


def _run(folder: Path, payload: str | None = None, **properties: str) -> scene.Outcome:
    return scene.run("qos", "before_vm_start", properties, payload, folder=folder)


def _limits(outcome: scene.Outcome, mac: str) -> dict[str, dict[str, str]]:
    """Return the attributes of each direction's limits."""
    limits = outcome.tree.findall(
        f"devices/interface/mac[@address='{mac}']/../bandwidth/*"
    )
    return {str(each.tag): scene.attributes(each) for each in limits}


def test_qos_does_nothing_without_its_property(tmp_path: Path) -> None:
    outcome = _run(tmp_path)
    assert outcome.returncode == 0
    assert outcome.is_untouched


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        (
            f"{scene.MAC}={_BOTH}",
            {
                "inbound": {"average": "1", "peak": "2", "burst": "5"},
                "outbound": {"average": "1"},
            },
        ),
        (
            f"{scene.MAC.upper()}=out{{'peak': 20, 'average': 10}}",
            {"outbound": {"average": "10", "peak": "20"}},
        ),
    ],
    ids=["as-in-ovirt", "numbers"],
)
def test_qos_limits_the_card(
    tmp_path: Path, value: str, limits: dict[str, dict[str, str]]
) -> None:
    outcome = _run(tmp_path, qos=value)
    scene.assert_valid(outcome)
    assert _limits(outcome, scene.MAC) == limits
    assert _limits(outcome, scene.OTHER_MAC) == {}
    assert scene.may_be_set("qos", "qos", value)


def test_qos_limits_several_cards(tmp_path: Path) -> None:
    value = f"{scene.MAC}={_BOTH}&{scene.OTHER_MAC}=in{{'average':'7'}}"
    outcome = _run(tmp_path, qos=value)
    scene.assert_valid(outcome)
    assert _limits(outcome, scene.MAC).keys() == {"inbound", "outbound"}
    assert _limits(outcome, scene.OTHER_MAC) == {"inbound": {"average": "7"}}
    assert scene.may_be_set("qos", "qos", value)


def test_qos_replaces_the_direction_that_it_names(tmp_path: Path) -> None:
    once = _run(tmp_path, qos=f"{scene.MAC}={_BOTH}")
    again = _run(tmp_path, once.after, qos=f"{scene.MAC}=in{{'average':'9'}}")
    scene.assert_valid(again)
    assert _limits(again, scene.MAC) == {
        "inbound": {"average": "9"},
        "outbound": {"average": "1"},
    }


def test_qos_refuses_a_card_that_the_vm_does_not_have(tmp_path: Path) -> None:
    absent = "52:54:00:00:00:99"
    outcome = _run(tmp_path, qos=f"{scene.MAC}={_BOTH}&{absent}={_BOTH}")
    scene.assert_refused(outcome, "qos")
    assert absent in outcome.stderr


@scene.hostile
@pytest.mark.parametrize(
    "form",
    [
        "%s",
        f"%s={_BOTH}",
        f"{scene.MAC}=%s",
        f"{scene.MAC}=in{{%s}}",
        f"{scene.MAC}=in{{'average':'%s'}}",
        f"{scene.MAC}=in{{'average':%s}}",
        f"{scene.MAC}=in{{'average':'1','%s':'1'}}",
    ],
    ids=["all", "mac", "limits", "dictionary", "text", "number", "key"],
)
def test_qos_refuses_what_is_no_limit(tmp_path: Path, form: str, value: str) -> None:
    wanted = form.replace("%s", value)
    scene.assert_refused(_run(tmp_path, qos=wanted), "qos")
    assert not scene.may_be_set("qos", "qos", wanted)


@pytest.mark.parametrize(
    "limits",
    [
        "in{'peak':'1'}",
        "in{'average':'1.5'}",
        "in{'average':True}",
        "in{'average':['1']}",
        "in{}",
        "in['average']",
        "both{'average':'1'}",
        "in{'average':'1'}^",
        "in{**{'average':'1'}}",
    ],
)
def test_qos_refuses_limits_with_flaws(tmp_path: Path, limits: str) -> None:
    wanted = f"{scene.MAC}={limits}"
    scene.assert_refused(_run(tmp_path, qos=wanted), "qos")
    assert not scene.may_be_set("qos", "qos", wanted)
