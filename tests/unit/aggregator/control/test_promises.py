"""What orders under way take before the nodes report it."""

import pytest

from aggregator.control import actions, order, promises
from aggregator.control.order import Entry
from aggregator.federation.view import View
from aggregator.scheduling.filters import Promise
from node.model.job import JobState
from node.model.vm import VmState
from node.units import MiB
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import ONE, ORIGIN, TWO, say, view_of

VIEW = view_of(1, 2)
SIZE = 512 * MiB


def creation(number: int, name: str = "") -> Entry:
    ids = (fleet.job_id(number), TWO, fleet.vm_id(number), ORIGIN.correlation_id)
    spec = fleet.spec(number, name)
    return order.record(actions.CreateVm(*ids, spec), spec.name, ORIGIN, fleet.AT)


ids = (fleet.job_id(1), ONE, fleet.vm_id(1), ORIGIN.correlation_id)
START = order.record(actions.StartVm(*ids), "web", ORIGIN, fleet.AT)
STARTED = order.follow(START, fleet.job(1, JobState.DONE), fleet.AT)
PAUSE = order.record(actions.PauseVm(*ids), "web", ORIGIN, fleet.AT)


@pytest.mark.parametrize(
    ("entries", "view", "expected"),
    [
        pytest.param([], VIEW, {}, id="nothing"),
        pytest.param([creation(2)], VIEW, {TWO: Promise(1, SIZE)}, id="creation"),
        pytest.param(
            [creation(2), creation(3)],
            VIEW,
            {TWO: Promise(2, 2 * SIZE)},
            id="two-creations",
        ),
        pytest.param(
            [creation(2)], say(VIEW, 2, fleet.vm(2)), {}, id="creation-in-the-view"
        ),
        pytest.param([START], VIEW, {ONE: Promise(1, SIZE)}, id="start"),
        pytest.param([STARTED], VIEW, {}, id="start-has-ended"),
        pytest.param([START], say(VIEW, 1, fleet.up(1)), {}, id="start-in-the-view"),
        pytest.param(
            [START],
            say(VIEW, 1, fleet.run(1, 1, VmState.UP)),
            {},
            id="start-of-what-runs",
        ),
        pytest.param([PAUSE], VIEW, {}, id="pause"),
    ],
)
def test_promised_counts_what_the_view_does_not(
    entries: list[Entry], view: View, expected: dict[str, Promise]
) -> None:
    assert promises.promised(entries, view) == expected


@pytest.mark.parametrize(
    ("name", "entries", "expected"),
    [
        pytest.param("new", [], True, id="free"),
        pytest.param("web", [], False, id="in-the-view"),
        pytest.param("new", [creation(2, "new")], False, id="under-way"),
        pytest.param("New", [creation(2, "new")], True, id="other-case"),
        pytest.param("web2", [START], True, id="other-actions-take-no-name"),
        pytest.param(
            "caf\u00e9", [creation(2, "cafe\u0301")], False, id="other-normal-form"
        ),
    ],
)
def test_is_name_free_looks_everywhere(
    name: str, entries: list[Entry], expected: bool
) -> None:
    assert promises.is_name_free(name, entries, VIEW) is expected
