"""A fleet is founded once, and rebuilt from what one node kept."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aggregator import authority, db
from aggregator.fleet import documents, founding, sealing, term
from node import pki
from node.http import client
from node.log import Secret
from node.model.fleet import SealedFleet
from tests.fakes.clock import FakeClock
from tests.fakes.doorsteps import FakeNode

Open = Callable[[str], db.Database]


@pytest.fixture
def open_database(tmp_path: Path) -> Iterator[Open]:
    opened: list[db.Database] = []

    def open_one(name: str) -> db.Database:
        (tmp_path / name).mkdir(exist_ok=True)
        opened.append(db.Database(db.sqlite_url(tmp_path / name / "a.db")))
        return opened[-1]

    yield open_one
    for database in opened:
        database.close()


def found(folder: Path, database: db.Database) -> tuple[Secret, term.Leadership]:
    recovery_key = founding.init(folder, database, FakeClock())
    return recovery_key, leadership(folder, database)


def leadership(folder: Path, database: db.Database) -> term.Leadership:
    ca = authority.Authority(folder, FakeClock())
    return term.Leadership(database, ca, folder)


def test_init_founds_a_fleet_that_leads(tmp_path: Path, open_database: Open) -> None:
    database = open_database("a")
    recovery_key, leading = found(tmp_path / "a", database)
    assert (leading.term, leading.is_leading) == (1, True)
    assert leading.seal_changes()
    assert leading.mark().version == 1
    assert b"PRIVATE KEY" in sealing.unseal(recovery_key, leading.sealed())


def test_init_refuses_a_second_time(tmp_path: Path, open_database: Open) -> None:
    database = open_database("a")
    found(tmp_path / "a", database)
    before = (tmp_path / "a" / authority.CA_KEY).read_text()
    with pytest.raises(founding.FoundedAlready):
        founding.init(tmp_path / "a", database, FakeClock())
    assert (tmp_path / "a" / authority.CA_KEY).read_text() == before


def test_init_stores_no_recovery_key(tmp_path: Path, open_database: Open) -> None:
    recovery_key, leading = found(tmp_path / "a", open_database("a"))
    leading.seal_changes()
    written = [path.read_bytes() for path in (tmp_path / "a").iterdir()]
    assert not any(recovery_key.reveal().encode() in each for each in written)


def test_init_keeps_keys_to_itself(tmp_path: Path, open_database: Open) -> None:
    found(tmp_path / "a", open_database("a"))
    for name in (authority.CA_KEY, term.SEALING_FILE):
        assert (tmp_path / "a" / name).stat().st_mode & 0o077 == 0


def node_that_keeps(leading: term.Leadership) -> FakeNode:
    leading.seal_changes()
    return FakeNode(sealed=leading.sealed())


def test_rebuild_restores_the_fleet(tmp_path: Path, open_database: Open) -> None:
    first = open_database("a")
    recovery_key, leading = found(tmp_path / "a", first)
    first.records("member").put("n1", {"name": "n1"})
    first.records("fleet").put("user/admin", {"password": "hash"})
    first.records("token").put("t1", {"secret": "s", "expires_at": "x"})
    node = node_that_keeps(leading)
    second = open_database("b")
    fleet_id = founding.rebuild(tmp_path / "b", second, node, recovery_key)
    again = leadership(tmp_path / "b", second)
    assert fleet_id == again.fleet_id == leading.fleet_id
    assert (again.term, again.is_leading) == (2, True)
    assert [each.id for each in second.records("member").list()] == ["n1"]
    user = second.records("fleet").get("user/admin")
    assert user is not None
    assert user.body == {"password": "hash"}
    assert second.records("token").list() == ()
    assert again.seal_changes()
    assert again.mark().version == leading.mark().version + 1
    assert sealing.unseal(recovery_key, again.sealed())


def test_rebuild_issues_what_the_fleet_believes(
    tmp_path: Path, open_database: Open
) -> None:
    recovery_key, leading = found(tmp_path / "a", open_database("a"))
    old = authority.Authority(tmp_path / "a", FakeClock())
    founding.rebuild(
        tmp_path / "b", open_database("b"), node_that_keeps(leading), recovery_key
    )
    new = authority.Authority(tmp_path / "b", FakeClock())
    new.prepare_own("a2", "10.0.0.251")
    pki.check_issued_by(new.certificate(), old.ca_certificate)


def test_rebuild_as_a_mirror_does_not_lead(tmp_path: Path, open_database: Open) -> None:
    recovery_key, leading = found(tmp_path / "a", open_database("a"))
    node = node_that_keeps(leading)
    database = open_database("b")
    founding.rebuild(tmp_path / "b", database, node, recovery_key, is_mirror=True)
    mirror = leadership(tmp_path / "b", database)
    assert (mirror.term, mirror.is_leading) == (1, False)
    assert not mirror.seal_changes()
    assert mirror.promote() == 2


def test_rebuild_changes_nothing_when_the_key_is_wrong(
    tmp_path: Path, open_database: Open
) -> None:
    _, leading = found(tmp_path / "a", open_database("a"))
    database = open_database("b")
    with pytest.raises(sealing.SealRefused):
        founding.rebuild(
            tmp_path / "b",
            database,
            node_that_keeps(leading),
            sealing.make_recovery_key(),
        )
    assert not term.is_founded(database.records("setting"))
    assert not (tmp_path / "b" / authority.CA_KEY).exists()


def test_rebuild_refuses_where_a_fleet_is(tmp_path: Path, open_database: Open) -> None:
    database = open_database("a")
    recovery_key, leading = found(tmp_path / "a", database)
    with pytest.raises(founding.FoundedAlready):
        founding.rebuild(
            tmp_path / "a", database, node_that_keeps(leading), recovery_key
        )


def test_rebuild_refuses_a_copy_under_a_false_label(
    tmp_path: Path, open_database: Open
) -> None:
    recovery_key, leading = found(tmp_path / "a", open_database("a"))
    key = sealing.sealing_key(recovery_key)
    text = sealing.unseal(recovery_key, leading.sealed())
    other: SealedFleet = sealing.seal(key, "elsewhere", 1, 1, text)  # type: ignore[arg-type]  # a plain text will do
    with pytest.raises(founding.OtherCopy):
        founding.rebuild(
            tmp_path / "b", open_database("b"), FakeNode(sealed=other), recovery_key
        )


class _Cut(Exception):
    """The machine stops here."""


class CutOff(db.Database):
    """A database of a machine that stops before its n-th write."""

    def __init__(self, url: str, writes: int) -> None:
        super().__init__(url)
        self.writes = writes

    def records(self, collection: str) -> db.Records:
        database = self

        class Records(db.Records):
            def put(
                self, id: str, body: object, expected_version: int | None = None
            ) -> db.Record:
                if database.writes == 0:
                    raise _Cut
                database.writes -= 1
                return super().put(id, body, expected_version)

        return Records(self, collection)


@pytest.mark.parametrize("writes", range(4))
def test_rebuild_can_be_run_again_wherever_it_was_cut_short(
    tmp_path: Path, open_database: Open, writes: int
) -> None:
    first = open_database("a")
    recovery_key, leading = found(tmp_path / "a", first)
    first.records("member").put("n1", {"name": "n1"})
    first.records("member").put("n2", {"name": "n2"})
    node = node_that_keeps(leading)
    (tmp_path / "b").mkdir()
    cut = CutOff(db.sqlite_url(tmp_path / "b" / "a.db"), writes)
    with pytest.raises(_Cut):
        founding.rebuild(tmp_path / "b", cut, node, recovery_key)
    cut.close()
    database = open_database("b")
    founding.rebuild(tmp_path / "b", database, node, recovery_key)
    assert leadership(tmp_path / "b", database).term == 2
    assert len(database.records("member").list()) == 2


def test_rebuild_passes_on_that_the_node_is_silent(
    tmp_path: Path, open_database: Open
) -> None:
    node = FakeNode(error=client.NodeUnreachable("silence"))
    with pytest.raises(client.NodeUnreachable):
        founding.rebuild(
            tmp_path / "b", open_database("b"), node, sealing.make_recovery_key()
        )


def test_parse_refuses_a_copy_of_a_newer_version() -> None:
    newer = documents.FleetDocuments("f", documents.Keys("k", "c"), {}, schema=2)  # type: ignore[arg-type]  # a plain text will do
    with pytest.raises(documents.UnknownSchema):
        documents.parse(documents.dump(newer))


def test_leadership_needs_a_fleet(tmp_path: Path, open_database: Open) -> None:
    database = open_database("a")
    authority.create(tmp_path / "a", "f", FakeClock())  # type: ignore[arg-type]  # a plain text will do
    with pytest.raises(term.NoFleet):
        leadership(tmp_path / "a", database)
