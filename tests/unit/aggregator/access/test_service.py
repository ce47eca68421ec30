"""Tests of logins, sessions and permissions together."""

from typing import cast

import pytest

from aggregator import access
from aggregator.access import identity
from aggregator.access.identity import ADMINISTRATOR
from aggregator.access.limiter import FAILURES_MAX, TooManyLogins
from aggregator.access.permissions import NotPermitted
from aggregator.access.service import LIFETIME_S, LoginFailed, NoSuchUser
from aggregator.db import Database
from aggregator.federation.events import EventLog
from node.log import Secret
from node.model.verbs import ActionGroup, Object
from node.units import HOUR_S
from tests.fakes.services import CHEAP, PASSWORD, Fleet, make_fleet

HERE = "192.0.2.9"
RIGHT = Secret(PASSWORD)
WRONG = Secret("wrong horse")


@pytest.fixture
def fleet() -> Fleet:
    return make_fleet()


def _token(fleet: Fleet) -> str:
    return fleet.access.login(ADMINISTRATOR, RIGHT, HERE).token.reveal()


def _restarted(fleet: Fleet) -> access.Access:
    return access.Access(
        cast(Database, fleet.database),
        fleet.clock,
        cast(EventLog, fleet.events),
        cost=CHEAP,
    )


def _newest(fleet: Fleet) -> tuple[str, object]:
    event = fleet.events.list(maximum=1)[0]
    return event.code, event.user


def test_login_opens_a_session_that_identifies(fleet: Fleet) -> None:
    who = fleet.access.identify(_token(fleet))
    assert who is not None
    assert who.user == ADMINISTRATOR


def test_login_records_an_event(fleet: Fleet) -> None:
    _token(fleet)
    assert _newest(fleet) == ("user_logged_in", ADMINISTRATOR)


@pytest.mark.parametrize(
    ("user", "password"),
    [(ADMINISTRATOR, WRONG), ("nobody@internal", RIGHT), ("", RIGHT)],
    ids=["wrong-password", "unknown-user", "no-user"],
)
def test_login_fails_alike_for_all_that_are_wrong(
    fleet: Fleet, user: str, password: Secret
) -> None:
    with pytest.raises(LoginFailed):
        fleet.access.login(user, password, HERE)
    assert _newest(fleet) == ("user_login_failed", user)


def test_login_fails_for_a_disabled_user(fleet: Fleet) -> None:
    records = fleet.database.records("fleet")
    record = records.get(f"user/{identity.user_id_of(ADMINISTRATOR)}")
    assert record is not None
    records.put(record.id, {**record.body, "is_enabled": False})
    with pytest.raises(LoginFailed):
        fleet.access.login(ADMINISTRATOR, RIGHT, HERE)


def test_login_is_refused_after_too_many_failures(fleet: Fleet) -> None:
    for _ in range(FAILURES_MAX):
        with pytest.raises(LoginFailed):
            fleet.access.login(ADMINISTRATOR, WRONG, HERE)
    with pytest.raises(TooManyLogins):
        fleet.access.login(ADMINISTRATOR, RIGHT, HERE)


def test_a_token_is_stored_only_as_its_hash(fleet: Fleet) -> None:
    token = _token(fleet)
    stored = repr(fleet.database.records("session").list())
    assert token not in stored
    assert identity.session_id_of(token) in stored


def test_a_session_survives_a_restart(fleet: Fleet) -> None:
    token = _token(fleet)
    assert _restarted(fleet).identify(token) is not None


def test_a_session_ends_after_its_life(fleet: Fleet) -> None:
    token = _token(fleet)
    fleet.clock.advance(LIFETIME_S)
    assert fleet.access.identify(token) is None
    assert fleet.database.records("session").list() == ()


def test_a_session_that_is_used_lives_longer(fleet: Fleet) -> None:
    token = _token(fleet)
    for _ in range(4):
        fleet.clock.advance(LIFETIME_S - HOUR_S)
        assert fleet.access.identify(token) is not None


def test_identify_does_not_write_with_each_use(fleet: Fleet) -> None:
    token = _token(fleet)
    fleet.clock.advance(60)
    fleet.access.identify(token)
    assert [record.version for record in fleet.database.records("session").list()] == [
        1
    ]


def test_identify_knows_no_foreign_token(fleet: Fleet) -> None:
    assert fleet.access.identify("0" * 64) is None


def test_logout_ends_the_session(fleet: Fleet) -> None:
    token = _token(fleet)
    fleet.access.logout(token)
    assert fleet.access.identify(token) is None
    assert _newest(fleet) == ("user_logged_out", ADMINISTRATOR)


def test_logout_twice_is_no_error(fleet: Fleet) -> None:
    token = _token(fleet)
    fleet.access.logout(token)
    fleet.access.logout(token)


def test_set_password_ends_sessions_and_the_old_password(fleet: Fleet) -> None:
    token = _token(fleet)
    fleet.access.identify_basic(ADMINISTRATOR, RIGHT, HERE)
    fleet.access.set_password(ADMINISTRATOR, Secret("battery staple"))
    assert fleet.access.identify(token) is None
    with pytest.raises(LoginFailed):
        fleet.access.identify_basic(ADMINISTRATOR, RIGHT, HERE)


def test_set_password_needs_a_user(fleet: Fleet) -> None:
    with pytest.raises(NoSuchUser):
        fleet.access.set_password("nobody@internal", RIGHT)


def test_identify_basic_proves_a_password_once(fleet: Fleet) -> None:
    first = len(fleet.events.list())
    fleet.access.identify_basic(ADMINISTRATOR, RIGHT, HERE)
    fleet.access.identify_basic(ADMINISTRATOR, RIGHT, HERE)
    assert len(fleet.events.list()) == first + 1


def test_identify_basic_refuses_a_wrong_password_after_a_right_one(
    fleet: Fleet,
) -> None:
    fleet.access.identify_basic(ADMINISTRATOR, RIGHT, HERE)
    with pytest.raises(LoginFailed):
        fleet.access.identify_basic(ADMINISTRATOR, WRONG, HERE)


def test_csrf_belongs_to_the_session(fleet: Fleet) -> None:
    one = fleet.access.login(ADMINISTRATOR, RIGHT, HERE)
    other = fleet.access.login(ADMINISTRATOR, RIGHT, HERE)
    who = fleet.access.identify(one.token.reveal())
    assert who is not None
    assert who.csrf == one.csrf != other.csrf


def test_require_lets_the_administrator_do_everything(fleet: Fleet) -> None:
    who = access.Identity(identity.user_id_of(ADMINISTRATOR), ADMINISTRATOR)
    for group in ActionGroup:
        fleet.access.require(who, group, Object.VM, "some-vm")


def test_require_refuses_somebody_without_a_role(fleet: Fleet) -> None:
    who = access.Identity(identity.user_id_of("ann@internal"), "ann@internal")
    with pytest.raises(NotPermitted):
        fleet.access.require(who, ActionGroup.READ, Object.VM, "some-vm")


def test_expired_sessions_are_swept_at_a_login(fleet: Fleet) -> None:
    for _ in range(3):
        _token(fleet)
    fleet.clock.advance(LIFETIME_S)
    _token(fleet)
    assert len(fleet.database.records("session").list()) == 1
