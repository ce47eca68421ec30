"""Give tests one lab for the whole session, and hand it to each test whole."""

import contextlib
import fcntl
import hashlib
import os
from collections import abc

import pytest

from tests.lab import Lab, layout, polling, requirements
from tests.lab import lab as lab_module

TURN_TIMEOUT_S = 900.0  # a whole run of the lab's tests
AGGREGATORS = 2  # one that leads, one that mirrors or belongs to strangers

# Modules of the longest tests: where several workers share the tests, the last to
# begin must be a short one.
LONGEST = (
    *("test_faults", "test_isolation", "test_terms", "test_certificates"),
    *("test_nfs", "test_soak_pool", "test_storage_faults"),
)

# What is shown of a failed test's logs: a run elsewhere leaves no others.
LOGGED = ("agent", "skerry-storage", "aggregator")
LOG_LINES = 25

_running: list[Lab] = []


@pytest.fixture(scope="session")
def lab_environment() -> dict[str, str]:
    """Return the environment that names the tests' lab.

    Each checkout has labs of its own, and in it each worker of pytest-xdist.
    """
    digest = hashlib.sha256(os.fspath(layout.CHECKOUT).encode()).hexdigest()[:6]
    lab_id = f"test-{os.environ.get('SKERRY_TEST_LAB', digest)}"
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        lab_id += f"-{worker}"
    subnet = os.environ.get("SKERRY_LAB_SUBNET", "")
    named = {"SKERRY_LAB_ID": lab_id, "SKERRY_LAB_SUBNET": subnet}
    if directory := os.environ.get("SKERRY_LAB_DIR"):
        named["SKERRY_LAB_DIR"] = f"{directory}-{lab_id}"
    return named


@pytest.fixture(scope="session")
def turn(lab_environment: dict[str, str]) -> abc.Iterator[None]:
    """Wait for other sessions of this checkout: they use a lab of the same name."""
    path = layout.CHECKOUT / "build" / f"{lab_environment['SKERRY_LAB_ID']}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:

        def take() -> bool:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        if not polling.until(take, TURN_TIMEOUT_S, 1.0):
            pytest.fail(f"another session has held {path} for {TURN_TIMEOUT_S} s")
        yield


@pytest.fixture(scope="session")
def whole_lab(
    request: pytest.FixtureRequest, lab_environment: dict[str, str]
) -> abc.Iterator[Lab]:
    """Bring the lab up once, and take it down at the end."""
    if lacks := requirements.missing():
        pytest.skip(requirements.describe(lacks))
    request.getfixturevalue("turn")
    settings = layout.read_settings(lab_environment)
    lab_module.take_down(settings)  # what a killed session left has older services
    one = Lab.up(aggregators=AGGREGATORS, settings=settings)
    _running.append(one)
    yield one
    _running.clear()
    one.down()


@pytest.fixture
def lab(whole_lab: Lab) -> Lab:
    """Return the lab with every member on, plugged in and healthy."""
    whole_lab.restore()
    return whole_lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the modules with the longest tests begin."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> abc.Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell what our services logged last when a test that used the lab fails."""
    report = yield
    uses = getattr(item, "fixturenames", ())
    if report.failed and _running and "whole_lab" in uses:
        for member in _running[0].members():
            for service in LOGGED:
                path = member.log_path(service)
                lines = member.log(service).splitlines()[-LOG_LINES:]
                if lines:
                    report.sections.append((f"the end of {path}", "\n".join(lines)))
    return report
