"""Let runs of the agent follow each other, and clients hang up."""

import threading

import pytest

from node.storage.process.sessions import (
    ANYBODY,
    OURSELVES,
    Asker,
    AskerGone,
    SessionMalformed,
    SessionOver,
    Sessions,
    SessionWaits,
)

END_S = 20.0
OLD, NEW = Asker(1), Asker(2)


@pytest.mark.parametrize("older", [ANYBODY, OLD], ids=["no-session", "older"])
def test_begin_refuses_an_older_session_once_a_newer_spoke(older: Asker) -> None:
    sessions = Sessions()
    sessions.admit(older)
    with sessions.begin(older):
        pass
    sessions.admit(NEW)
    with pytest.raises(SessionOver), sessions.begin(older):
        pytest.fail("it was begun")
    sessions.admit(older)  # it may ask how things are, and stays the older one
    with sessions.begin(NEW):
        pass


@pytest.mark.parametrize("session", [-1, OURSELVES.session, 2**70])
def test_admit_refuses_what_is_no_session(session: int) -> None:
    sessions = Sessions()
    with pytest.raises(SessionMalformed):
        sessions.admit(Asker(session))
    sessions.admit(NEW)
    with sessions.begin(OURSELVES):
        sessions.admit(Asker(3), 0.01)


def test_begin_refuses_a_client_that_hung_up() -> None:
    sessions = Sessions()
    with pytest.raises(AskerGone), sessions.begin(Asker(1, lambda: True)):
        pytest.fail("it was begun")


@pytest.mark.parametrize("is_late", [False, True], ids=["bound", "bound-later"])
def test_admit_cuts_off_what_is_older_and_waits_for_its_end(is_late: bool) -> None:
    sessions = Sessions()
    begun, cut, admitted = threading.Event(), threading.Event(), threading.Event()
    go = threading.Event()

    def old() -> None:
        with sessions.begin(OLD) as work:
            if not is_late:
                work.bind(cut.set)
            begun.set()
            if is_late:
                go.wait(END_S)
                work.bind(cut.set)
            cut.wait(END_S)
            assert not admitted.is_set()

    def new() -> None:
        sessions.admit(NEW)
        admitted.set()

    threads = [threading.Thread(target=old), threading.Thread(target=new)]
    threads[0].start()
    assert begun.wait(END_S)
    threads[1].start()
    assert not (is_late and admitted.wait(0.1))
    go.set()
    for each in threads:
        each.join(END_S)
    assert cut.is_set()
    assert admitted.is_set()


def test_admit_of_every_request_waits_and_says_so_in_the_end() -> None:
    sessions = Sessions()
    with sessions.begin(OLD):
        for _ in range(2):
            with pytest.raises(SessionWaits):
                sessions.admit(NEW, 0.01)
        sessions.admit(OLD, 0.01)
    sessions.admit(NEW, 0.01)
