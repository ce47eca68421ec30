"""Tests of aggregator.dashboard.storage_signs."""

import pytest

from aggregator.dashboard import signs, storage_signs
from aggregator.dashboard.signs import Sign
from aggregator.federation.view import View
from node.model.storage import (
    DomainState,
    Liveness,
    PoolState,
    SpmState,
    StorageDomainDocument,
)
from tests.fakes import fleet_storage as stored
from tests.fakes.services import ELM, OAK
from tests.unit.aggregator.dashboard.examples import say


@pytest.mark.parametrize(
    ("table", "states"),
    [
        pytest.param(storage_signs.DOMAIN_SIGNS, DomainState, id="domain"),
        pytest.param(storage_signs.POOL_SIGNS, PoolState, id="pool"),
        pytest.param(storage_signs.SPM_SIGNS, SpmState, id="manager"),
        pytest.param(storage_signs.LIVENESS_SIGNS, Liveness, id="liveness"),
    ],
)
def test_every_state_has_a_sign_of_its_own(
    table: dict[str, Sign], states: type[DomainState]
) -> None:
    assert set(table) == set(states)
    assert len({sign.text for sign in table.values()}) == len(table)


def _lost(**changes: object) -> StorageDomainDocument:
    state = DomainState.UNREACHABLE
    return stored.domain(ELM, stored.DATA2, state=state, **changes)


def test_domain_sign_warns_when_one_node_lost_it(storage: View) -> None:
    view = say(storage, ELM, _lost())
    row = view.storage_domains[stored.DATA2]
    assert storage_signs.domain_sign(row) is storage_signs.NOT_EVERYWHERE


def test_pool_sign_tells_that_nobody_manages(storage: View) -> None:
    row = storage.pools[stored.SHARED]
    found = [storage_signs.pool_sign(row, has_manager=each) for each in (True, False)]
    assert [each.tone for each in found] == [signs.Tone.GOOD, signs.Tone.WARN]


@pytest.mark.parametrize(
    ("domain_id", "names"),
    [
        pytest.param(stored.DATA1, ["maintain", "change"], id="active"),
        pytest.param(stored.ISO1, ["activate", "change", "detach"], id="maintenance"),
        pytest.param(stored.SPARE, ["attach", "remove"], id="of-no-pool"),
        pytest.param(stored.OAK_LOCAL, ["maintain", "change"], id="local"),
    ],
)
def test_domain_actions_fit_the_state(
    domain_id: str, names: list[str], storage: View
) -> None:
    row = next(
        each
        for each in storage.storage_domains.values()
        if each.storage_domain_id == domain_id
    )
    assert [each.name for each in storage_signs.domain_actions(row)] == names


def test_domain_actions_never_detach_the_folder_of_a_node(storage: View) -> None:
    resting = stored.domain(OAK, stored.OAK_LOCAL, state=DomainState.MAINTENANCE)
    row = say(storage, OAK, resting).storage_domains[stored.OAK_LOCAL]
    names = [each.name for each in storage_signs.domain_actions(row)]
    assert names == ["activate", "change"]


@pytest.mark.parametrize("action", storage_signs.DOMAIN_ACTIONS, ids=lambda it: it.name)
def test_whatever_takes_storage_away_says_what_it_means(
    action: storage_signs.DomainAction,
) -> None:
    assert bool(action.meaning) is (action.name != "activate")
