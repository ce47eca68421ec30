"""Tests of events and jobs."""

import pytest

from aggregator.control.orders import Order
from aggregator.rest import jobs
from node.model import storage_verbs
from node.model.ids import JobId
from node.model.job import Job, JobState
from tests.fakes.services import AT, ELM, OAK, WEB1, WEB2, make_view
from tests.unit.aggregator.rest.client import Client


def _codes(client: Client, query: str) -> list[str]:
    found = client.get(f"/events{query}").get("event", [])
    return [each["code"] for each in found]


def test_events_are_newest_first_with_increasing_ids(client: Client) -> None:
    found = client.get("/events")["event"]
    numbers = [int(each["id"]) for each in found]
    assert numbers == sorted(numbers, reverse=True)
    assert all(each["index"] == each["id"] for each in found)


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("", ["30", "12", "32", "1"]),
        ("?max=1", ["30"]),
        ("?from=2", ["30", "12"]),
        (";from=2?max=1", ["30"]),
        ("?search=type=32", ["32"]),
        ("?search=type=32 or type=12", ["12", "32"]),
        ("?search=severity=error", ["12"]),
        ("?search=message=*web1*", ["32"]),
        ("?search=event_vm=web1", ["32"]),
        (f"?search=type=32 and vm.id={WEB1}", ["32"]),
        ("?search=event_host=ash", ["12"]),
        ("?search=usrname=admin*", ["30"]),
        ("?search=type=9999", []),
        ("?max=2&search=page 2", ["32", "1"]),
    ],
)
def test_events_are_searched(client: Client, query: str, codes: list[str]) -> None:
    assert _codes(client, query) == codes


def test_the_text_of_a_login_names_the_user(client: Client) -> None:
    (event,) = client.get("/events?max=1")["event"]
    assert event["description"] == "User admin@internal logged in from 192.0.2.9."
    assert event["user"]["href"].endswith(f"/users/{event['user']['id']}")


@pytest.mark.parametrize("number", ["0", "999", "x", "-1"])
def test_an_event_that_is_not_there_is_not_found(client: Client, number: str) -> None:
    assert client.ask("GET", f"/events/{number}").status_code == 404


def test_an_action_is_found_by_its_correlation_id(client: Client) -> None:
    headers = {"Correlation-Id": "my-id"}
    client.ask("POST", f"/vms/{WEB2}/start", headers=headers)
    (event,) = client.get("/events?search=correlation_id=my-id")["event"]
    (job,) = client.get("/jobs?search=correlation_id=my-id")["job"]
    assert (event["code"], job["status"]) == ("32", "finished")
    (step,) = client.get(f"/jobs/{job['id']}/steps")["step"]
    assert (step["status"], step["progress"]) == ("finished", "100")
    assert step["execution_host"]["href"].endswith(f"/hosts/{ELM}")


def test_a_step_names_who_moves_the_data() -> None:
    view = make_view()
    order = Order(
        *(JobId("o1"), "disk_move", None, OAK, "d", JobState.RUNNING, AT),
        data_node_id=ELM,
    )
    assert jobs.execution_host(view, order) == f"hosts/{ELM}"


def test_a_job_that_is_not_there_is_not_found(client: Client) -> None:
    assert client.ask("GET", "/jobs/nothing").status_code == 404


def test_events_of_a_storage_domain_are_found(client: Client) -> None:
    client.fleet.events.record("storage_domain_created", name="data1")
    client.fleet.events.record("storage_domain_created", name="data2")
    client.fleet.events.record("pool_created", name="data1")
    search = "/events?search=event_storage=data1"
    (event,) = client.get(search)["event"]
    assert event["description"] == "Storage domain data1 was created."


@pytest.mark.parametrize(
    "verb", [verb.name for verb in storage_verbs.VERBS if verb.reply is Job]
)
def test_a_job_for_storage_says_what_it_does(verb: str) -> None:
    order = Order(JobId("1"), verb, None, None, "data1", JobState.RUNNING, AT)
    assert verb not in jobs.description(order)
    assert jobs.description(order).endswith(" data1")
