"""Decide what of a root is dropped."""

import pytest
from imagebuild.pruning import Rule, judge

DOC, KEPT = Rule("drop", "/usr/share/doc", "why"), Rule("keep", "/usr/share/doc/a", "k")


@pytest.mark.parametrize(
    ("pattern", "path", "is_dropped"),
    [
        pytest.param("/usr/share/man", "/usr/share/man/man1/ls.1", True, id="below"),
        pytest.param("/usr/share/man", "/usr/share/manual", False, id="whole-names"),
        pytest.param("/usr/bin/*", "/usr/bin/a/b", True, id="folder-by-star"),
        pytest.param("/usr/*/x", "/usr/a/b/x", False, id="star-within-a-name"),
        pytest.param("/usr/**/x", "/usr/a/b/x", True, id="two-stars"),
        pytest.param("/usr/**/x", "/usr/x", True, id="two-stars-are-no-folder-too"),
        pytest.param("/a/_codecs_??.*", "/a/_codecs_jp.so", True, id="marks"),
        pytest.param("/a/[bc]", "/a/c", True, id="set"),
        pytest.param("/a/x.so", "/a/xyso", False, id="dot-is-a-dot"),
        pytest.param("/a/libc++.so", "/a/libc++.so", True, id="plus-is-a-plus"),
    ],
)
def test_drop_takes_what_its_pattern_means(
    pattern: str, path: str, is_dropped: bool
) -> None:
    rule = Rule("drop", pattern, "why")
    assert judge([rule], [path], {}).dropped == ({path: rule} if is_dropped else {})


@pytest.mark.parametrize("rules", [(DOC, KEPT), (KEPT, DOC)], ids=["last", "first"])
def test_keep_wins_wherever_it_is_written(rules: tuple[Rule, ...]) -> None:
    paths = ["/usr/share/doc/a", "/usr/share/doc/a/b", "/usr/share/doc/c"]
    verdict = judge(rules, paths, {})
    assert verdict.dropped == {"/usr/share/doc/c": DOC}
    assert verdict.idle == ()


def test_drop_package_takes_its_files_but_what_is_kept() -> None:
    rule, keep = Rule("drop-package", "perl", "w"), Rule("keep", "/usr/bin/perl", "k")
    owned = {"perl": ["/usr/bin/perl", "/usr/share/perl/a"], "dash": ["/usr/bin/sh"]}
    paths = [path for files in owned.values() for path in files]
    verdict = judge([rule, keep], paths, owned)
    assert verdict.dropped == {"/usr/share/perl/a": rule}
    assert verdict.idle == ()


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(Rule("drop", "/gone", "w"), id="drop"),
        pytest.param(Rule("keep", "/usr/bin/sh", "w"), id="keep-what-nobody-drops"),
        pytest.param(Rule("drop-package", "gone", "w"), id="package"),
    ],
)
def test_rules_that_do_nothing_are_told(rule: Rule) -> None:
    assert judge([rule], ["/usr/bin/sh"], {}).idle == (rule,)


def test_no_rules_drop_nothing() -> None:
    assert judge([], ["/usr/bin/sh"], {}).dropped == {}
