"""What a check found is told in words that need no source code beside them."""

import pytest

from node.storage.disks import chain_problems, problems, sights
from node.storage.disks.chain_problems import Kind, Step, Verb
from node.storage.disks.sights import DomainSight, Finding, ImageSight
from node.storage.formats.volume_meta import Legality, VolumeRole
from tests.unit.node.storage.examples import IMAGE, OTHER_IMAGE, SD
from tests.unit.node.storage.images import name

STEPS = {
    Verb.SET_PARENT: Step(Verb.SET_PARENT, "v1", parent_id="v0"),
    Verb.SET_ROLE: Step(Verb.SET_ROLE, "v1", role=VolumeRole.INTERNAL),
    Verb.SET_LEGALITY: Step(Verb.SET_LEGALITY, "v1", legality=Legality.ILLEGAL),
    Verb.MAKE_LEASE: Step(Verb.MAKE_LEASE, "v1"),
    Verb.REMOVE_LEASE: Step(Verb.REMOVE_LEASE, "v1"),
    Verb.REMOVE_VOLUME: Step(Verb.REMOVE_VOLUME, "v1"),
    Verb.LINK_TEMPLATE: Step(Verb.LINK_TEMPLATE, "v1", image_id="i0"),
    Verb.REMOVE_IMAGE: Step(Verb.REMOVE_IMAGE),
    Verb.PURGE_REMAINS: Step(Verb.PURGE_REMAINS),
    Verb.FORGET_OPTIONS: Step(Verb.FORGET_OPTIONS),
}


@pytest.mark.parametrize("verb", list(Verb))
def test_each_step_of_a_repair_is_a_sentence_with_what_it_touches(verb: Verb) -> None:
    step = STEPS[verb]
    said = problems.sentence(step)
    for named in (step.volume_id, step.parent_id, step.image_id):
        assert named in said
    assert len({problems.sentence(each) for each in STEPS.values()}) == len(STEPS)


@pytest.mark.parametrize("role", list(VolumeRole))
def test_each_role_is_told_in_words(role: VolumeRole) -> None:
    said = problems.sentence(Step(Verb.SET_ROLE, "v1", role=role))
    assert ("newest state" in said) == (role is VolumeRole.LEAF)
    assert role.value not in said


@pytest.mark.parametrize(
    ("legality", "word"),
    [
        (Legality.LEGAL, " usable"),
        (Legality.ILLEGAL, " unusable"),
        (Legality.FAKE, " a placeholder"),
    ],
)
def test_each_legality_is_told_in_words(legality: Legality, word: str) -> None:
    said = problems.sentence(Step(Verb.SET_LEGALITY, "v1", legality=legality))
    assert said.endswith(word)


def test_report_names_disks_and_says_what_a_repair_would_do() -> None:
    ill = ImageSight(
        SD,
        IMAGE,
        7.0,
        name="root",
        problems=(
            chain_problems.Problem(
                Kind.LEASE_MISSING, name(1), repair=(Step(Verb.MAKE_LEASE, name(1)),)
            ),
            chain_problems.Problem(Kind.NO_VOLUMES),
        ),
    )
    well = ImageSight(SD, OTHER_IMAGE, 7.0)
    sight = DomainSight(SD, {IMAGE: ill, OTHER_IMAGE: well}, foreign=2, passed_over=1)
    report = problems.report(sight, sights.findings(ill))
    assert (report.disks_read, report.disks_passed_over, report.foreign_names) == (
        2,
        1,
        2,
    )
    first, second = report.problems
    assert (first.disk_id, first.disk_name) == (IMAGE, "root")
    assert (first.kind, first.volume_id) == ("lease_missing", name(1))
    assert first.explanation == chain_problems.EXPLANATIONS[Kind.LEASE_MISSING]
    assert first.repair == (f"make the lease file of {name(1)} anew",)
    assert (second.volume_id, second.repair) == (None, ())


def test_report_tells_of_an_image_that_is_gone_meanwhile() -> None:
    finding = Finding(SD, IMAGE, sights.UNREADABLE, "", "", "it cannot be read")
    (told,) = problems.report(DomainSight(SD), (finding,)).problems
    assert (told.disk_name, told.explanation) == ("", "it cannot be read")
