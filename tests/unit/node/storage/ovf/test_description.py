"""The JSON in DESCRIPTION: as engines write it, cut to fit, safe to read."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.model.ids import StorageDomainId
from node.storage.ovf import description
from node.storage.ovf.description import DESCRIPTION_MAX, DiskLabel, StoreLabel
from tests.unit.node.storage.ovf import samples

ID = StorageDomainId(samples.STORAGE_DOMAIN)
STORE = StoreLabel(True, 10240, "2016-06-26T10:21:01.000Z", (ID,))
STORE_TEXT = (
    '{"Updated":true,"Size":10240,"Last Updated":"Sun Jun 26 10:21:01 UTC 2016",'
    f'"Storage Domains":[{{"uuid":"{ID}"}}],"Disk Description":"OVF_STORE"}}'
)


def test_write_store_says_it_as_an_engine_does() -> None:
    assert description.write_store(STORE) == STORE_TEXT
    assert len(STORE_TEXT) <= DESCRIPTION_MAX


def test_write_store_says_null_before_the_first_update() -> None:
    text = description.write_store(StoreLabel(False, None, None, (ID,)))
    assert text.startswith('{"Updated":false,"Last Updated":null,')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(STORE_TEXT, STORE, id="store"),
        pytest.param(
            '{"Disk Description":"OVF_STORE","Updated":"yes","Size":-1,'
            '"Last Updated":7,"Storage Domains":["x",{"uuid":"../y"},3]}',
            StoreLabel(False),
            id="odd-store",
        ),
        pytest.param(
            '{"DiskAlias":"web","DiskDescription":"root"}',
            DiskLabel("web", "root"),
            id="disk",
        ),
        pytest.param('{"DiskAlias":7}', DiskLabel(""), id="odd-disk"),
        pytest.param("my old disk", DiskLabel("my old disk"), id="words"),
        pytest.param("", DiskLabel(""), id="empty"),
        pytest.param("[1]", DiskLabel("[1]"), id="a-list"),
        pytest.param('{"DiskAlias":"cut', DiskLabel('{"DiskAlias":"cut'), id="cut"),
    ],
)
def test_read_tells_what_a_description_says(
    text: str, expected: DiskLabel | StoreLabel
) -> None:
    assert description.read(text) == expected


@given(name=some.text(max_size=300), about=some.text(max_size=300))
def test_write_disk_fits_and_keeps_what_it_can(name: str, about: str) -> None:
    text = description.write_disk(DiskLabel(name, about))
    assert len(text.encode()) <= DESCRIPTION_MAX
    assert text.isprintable()
    read = description.read(text)
    assert isinstance(read, DiskLabel)
    assert name.startswith(read.name)
    assert about.startswith(read.description)
    assert read.name == name or not read.description


@pytest.mark.parametrize("letter", ["x", "é", "😀", '"'])
def test_write_disk_cuts_a_long_name_after_the_description(letter: str) -> None:
    text = description.write_disk(DiskLabel(letter * 255, "gone"))
    read = description.read(text)
    assert isinstance(read, DiskLabel)
    assert read.description == ""
    assert DESCRIPTION_MAX - 12 < len(text) <= DESCRIPTION_MAX


def test_java_date_is_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    moment = datetime(2026, 1, 1, 1, 2, 3, tzinfo=east)
    assert description.java_date(moment) == "Wed Dec 31 23:02:03 UTC 2025"


@given(moment=some.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_moment_of_reads_what_java_date_wrote(moment: datetime) -> None:
    whole = moment.replace(microsecond=0, tzinfo=UTC)
    read = description.moment_of(description.java_date(whole))
    assert read is not None
    assert datetime.fromisoformat(read) == whole


@pytest.mark.parametrize(
    "text",
    ["", "now", "Sun Foo 26 10:21:01 UTC 2016", "Sun Jun 36 10:21:01 UTC 2016", 7],
)
def test_moment_of_is_none_for_what_is_no_date(text: object) -> None:
    assert description.moment_of(text) is None


@given(text=some.text())
def test_read_takes_any_text(text: str) -> None:
    description.read(text)
    description.moment_of(text)
