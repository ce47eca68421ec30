"""Test that the witness' logs are read as they were written."""

from pathlib import Path

from tests.lab import layout, witness

LOG = """\
S 5
B 1 10 77 create 0 -1 0 /a
E 1 11 0
B 2 20 77 write 42 4096 512 /a b
B 3 21 78 rename 42 -1 0 /a b\t/c
E 3 22 0
E 2 23 512
B 4 30 77 write 42 0 512 /c
E 4 31 -28
"""


def change(host: str, begin_ns: int, end_ns: int | None) -> witness.Change:
    return witness.Change(
        *(host, "write", "/a", "", 42, 0, 512, 7, begin_ns, end_ns),
        result=None if end_ns is None else 512,
    )


def test_parse_returns_changes_with_begin_and_end() -> None:
    found = witness.parse(LOG, "h1")
    assert [(c.verb, c.begin_ns, c.end_ns, c.result) for c in found] == [
        ("create", 10, 11, 0),
        ("write", 20, 23, 512),
        ("rename", 21, 22, 0),
        ("write", 30, 31, -28),
    ]
    assert (found[1].path, found[1].inode, found[1].offset) == ("/a b", 42, 4096)
    assert (found[2].path, found[2].other) == ("/a b", "/c")
    assert [c.is_done for c in found] == [True, True, True, False]


def test_parse_leaves_a_change_open_when_the_mirror_died() -> None:
    text = "S 1\nB 1 10 7 write 42 0 9 /a\nS 50\nB 1 60 7 write 42 0 9 /a\nE 1 61 9\n"
    first, second = witness.parse(text, "h1")
    assert (first.end_ns, first.result, first.is_done) == (None, None, True)
    assert second.end_ns == 61


def test_parse_ends_what_was_open_when_the_host_was_dead() -> None:
    cut = "S 1\nB 1 10 7 write 42 0 9 /a\nB 2 11 7 write 42 9 9 /a\nE 2 12 9\nD 40\n"
    first, second = witness.parse(cut + "S 50\nB 1 60 7 write 42 0 9 /a\n", "h1")[:2]
    assert (first.end_ns, first.result, first.is_done) == (40, None, True)
    assert second.end_ns == 12


def test_death_of_a_host_is_noted_where_it_logs(tmp_path: Path) -> None:
    lab = layout.Layout("x", tmp_path, "10.1.2", hosts=2, aggregators=0)
    lab.witness.mkdir()
    lab.witness_log("h1").write_text("S 1\nB 1 10 7 write 42 0 9 /a\n")
    witness.note_death(lab, "h1")
    witness.note_death(lab, "h2")  # it shares no storage
    (found,) = witness.read(lab)
    assert found.end_ns is not None


def test_volume_is_written_when_a_log_ends_with_that(tmp_path: Path) -> None:
    lab = layout.Layout("x", tmp_path, "10.1.2", hosts=1, aggregators=0)
    lab.witness.mkdir()
    lines = ["B 1 10 7 write 42 0 9 /d/v.meta\n", "B 2 11 7 create 0 -1 0 /d/v\n"]
    lab.witness_log("h1").write_text("".join(lines))
    assert not witness.is_written(lab, "v")
    lab.witness_log("h1").write_text("".join([*lines, "B 3 12 7 write 42 0 9 /d/v\n"]))
    assert witness.is_written(lab, "v")


def test_parse_leaves_a_half_written_line() -> None:
    assert len(witness.parse("S 1\nB 1 10 7 write 42 0 9 /a\nE 1 1", "h1")) == 1


def test_parse_skips_the_end_of_what_began_before_the_log_was_emptied() -> None:
    assert witness.parse("E 7 11 0\n", "h1") == []


def test_read_merges_all_hosts_in_order_of_time(tmp_path: Path) -> None:
    lab = layout.Layout("x", tmp_path, "10.1.2", hosts=2, aggregators=0)
    lab.witness.mkdir()
    for host, times in {"h1": (10, 30), "h2": (20,)}.items():
        lines = [f"B {at} {at} 7 write 42 0 9 /a\nE {at} {at} 9\n" for at in times]
        lab.witness_log(host).write_text("S 1\n" + "".join(lines))
    assert [c.host for c in witness.read(lab)] == ["h1", "h2", "h1"]
    assert [c.begin_ns for c in witness.read(lab, "h2")] == [20]


def test_turns_join_what_one_host_did_without_another() -> None:
    seen = [change("h1", 1, 2), change("h1", 3, 4), change("h2", 5, 6)]
    assert witness.turns(seen) == [
        witness.Turn("h1", 1, 4, 2),
        witness.Turn("h2", 5, 6, 1),
    ]


def test_overlaps_finds_nothing_when_one_ended_before_the_other_began() -> None:
    assert witness.overlaps([change("h1", 1, 4), change("h2", 5, 6)]) == []


def test_overlaps_finds_a_write_that_ended_after_another_host_began() -> None:
    found = witness.overlaps([change("h1", 1, 9), change("h2", 5, 6)])
    assert [(first.host, second.host) for first, second in found] == [("h1", "h2")]


def test_overlaps_finds_a_write_whose_end_nobody_knows() -> None:
    assert len(witness.overlaps([change("h1", 1, None), change("h2", 5, 6)])) == 1
