"""Places where verbs are at work stay open."""

from pathlib import PurePosixPath

from node.storage.pools.visits import Visits

PLACE, OTHER = PurePosixPath("/run/a"), PurePosixPath("/run/b")


def test_place_is_closed_when_the_last_has_left() -> None:
    visits, closed = Visits(), list[str]()

    def close(folder: PurePosixPath) -> bool:
        return visits.close(folder, lambda: closed.append(str(folder)))

    with visits.at(PLACE):
        with visits.at(PLACE):
            assert not close(PLACE)
        assert not close(PLACE)
        assert close(OTHER)
    assert close(PLACE)
    assert closed == [str(OTHER), str(PLACE)]
