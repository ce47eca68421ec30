"""Who leads, and that one (term, version) never has two contents."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from aggregator import authority, db
from aggregator.fleet import founding, sealing, term
from node.log import Secret
from node.wire import Json
from tests.fakes.clock import FakeClock


@dataclass(slots=True)
class Place:
    folder: Path
    database: db.Database
    recovery_key: Secret

    def leadership(self) -> term.Leadership:
        ca = authority.Authority(self.folder, FakeClock())
        return term.Leadership(self.database, ca, self.folder)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    database = db.Database(db.sqlite_url(tmp_path / "a.db"))
    yield Place(tmp_path, database, founding.init(tmp_path, database, FakeClock()))
    database.close()


def test_seal_changes_makes_a_version_only_when_something_changed(
    place: Place,
) -> None:
    leading = place.leadership()
    assert [leading.seal_changes(), leading.seal_changes()] == [True, False]
    place.database.records("fleet").put("user/u", {"name": "u"})
    assert leading.seal_changes()
    assert leading.mark().version == 2


def test_seal_changes_passes_over_what_is_not_the_fleets(place: Place) -> None:
    leading = place.leadership()
    leading.seal_changes()
    for collection in ("session", "order", "token"):
        place.database.records(collection).put("x", {"expires_at": "x"})
    assert not leading.seal_changes()


def test_sealed_is_the_same_text_after_a_restart(place: Place) -> None:
    first = place.leadership().sealed()
    assert place.leadership().sealed() == first
    assert not place.leadership().seal_changes()


def test_promote_raises_term_and_version(place: Place) -> None:
    leading = place.leadership()
    leading.seal_changes()
    assert leading.promote() == 2
    assert leading.mark().term == 2
    assert leading.mark().version == 2
    assert place.leadership().term == 2


def test_observe_gives_way_to_a_higher_term(place: Place) -> None:
    leading = place.leadership()
    leading.observe(5)
    assert not leading.is_leading
    assert not place.leadership().is_leading
    assert leading.promote() == 6
    assert leading.is_leading


def test_observe_passes_over_our_own_term(place: Place) -> None:
    leading = place.leadership()
    leading.observe(1)
    assert leading.is_leading


def test_promote_goes_above_what_it_is_told(place: Place) -> None:
    assert place.leadership().promote(above=9) == 10


def test_headers_carry_fleet_and_term(place: Place) -> None:
    leading = place.leadership()
    assert leading.headers() == {
        "X-Skerry-Fleet": leading.fleet_id,
        "X-Skerry-Term": "1",
    }


def test_change_recovery_key_locks_the_old_one_out(place: Place) -> None:
    leading = place.leadership()
    leading.seal_changes()
    fresh = leading.change_recovery_key()
    assert sealing.unseal(fresh, leading.sealed())
    with pytest.raises(sealing.SealRefused):
        sealing.unseal(place.recovery_key, leading.sealed())


def test_observe_tells_once_that_another_leads(place: Place) -> None:
    leading = place.leadership()
    told: list[tuple[int, int]] = []
    leading.on_superseded(lambda term, newest: told.append((term, newest)))
    for newest in (1, 4, 4, 6):
        leading.observe(newest)
    assert told == [(1, 4)]


def test_check_leading_refuses_a_mirror(place: Place) -> None:
    leading = place.leadership()
    leading.check_leading()
    leading.observe(4)
    with pytest.raises(term.NotLeading):
        leading.check_leading()


def test_follow_does_not_undo_a_promotion_by_another_process(place: Place) -> None:
    leader = place.leadership()
    leader.seal_changes()
    copy, key = leader.sealed(), leader.sealing_key()
    leader.observe(2)
    service, command = place.leadership(), place.leadership()
    overtaken = replace(copy, term=2)
    service.check_follows(overtaken)
    assert command.promote() == 3
    with pytest.raises(term.Outdated):
        service.follow(overtaken, key)
    with pytest.raises(term.Outdated):
        service.check_follows(overtaken)
    fresh = place.leadership()
    assert (fresh.is_leading, fresh.term) == (True, 3)
    assert fresh.sealed() == command.sealed()


def test_observe_does_not_undo_a_promotion_by_another_process(place: Place) -> None:
    service, command = place.leadership(), place.leadership()
    service.observe(3)
    assert command.promote() == 4
    service.observe(4)
    fresh = place.leadership()
    assert (fresh.is_leading, fresh.term) == (True, 4)
    service.observe(5)
    assert not place.leadership().is_leading


def test_promote_goes_above_what_another_process_observed(place: Place) -> None:
    service, command = place.leadership(), place.leadership()
    service.observe(7)
    assert command.promote() == 8


def test_promote_goes_above_what_is_observed_meanwhile(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service writes between the command's look and its write."""
    service, command = place.leadership(), place.leadership()
    write = db.Records.put

    def put_late(
        self: db.Records, record_id: str, body: Json, expected: int | None = None
    ) -> db.Record:
        monkeypatch.setattr(db.Records, "put", write)
        service.observe(7)
        return write(self, record_id, body, expected)

    monkeypatch.setattr(db.Records, "put", put_late)
    assert command.promote() == 8
    assert (place.leadership().term, place.leadership().is_leading) == (8, True)
