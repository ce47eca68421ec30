"""Ask what people and their programs ask, one request after the other.

Each kind of request has a target for VM number i of n, and what its answer must
hold: a fast error is no answer.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.scale import daemon, simulated
from tests.scale.connection import Answer, Connection

PAGE: Final = 100  # VMs on a page
_JSON: Final = {"Accept": "application/json"}
_DASHBOARD_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Question:
    """A kind of request; `target` and `sign` get (number of a VM, how many)."""

    name: str
    target: Callable[[int, int], str]
    sign: Callable[[int, int], str]
    limit_ms: float | None = None
    headers: Mapping[str, str] | None = None
    has_cookie: bool = False


QUESTIONS: Final = (
    Question(
        "oVirt REST: a page of 100 VMs",
        lambda vm, count: (
            f"/ovirt-engine/api/vms?max={PAGE}&search=page+{vm // PAGE + 1}"
        ),
        lambda vm, count: simulated.vm_name(vm // PAGE * PAGE),
        100.0,
        _JSON,
    ),
    Question(
        "oVirt REST: one VM",
        lambda vm, count: f"/ovirt-engine/api/vms/{simulated.vm_id(vm)}",
        lambda vm, count: simulated.vm_name(vm),
        10.0,
        _JSON,
    ),
    Question(
        "oVirt REST: search name=…",
        lambda vm, count: (
            f"/ovirt-engine/api/vms?search=name%3D{simulated.vm_name(vm)}"
        ),
        lambda vm, count: simulated.vm_id(vm),
        100.0,
        _JSON,
    ),
    Question(
        "/v1: the first 100 VMs",
        lambda vm, count: f"/v1/vms?max={PAGE}",
        lambda vm, count: f'"total":{count}',
        100.0,
    ),
    Question(
        "/v1: one VM",
        lambda vm, count: f"/v1/vms/{simulated.vm_id(vm)}",
        lambda vm, count: simulated.vm_name(vm),
        10.0,
    ),
    Question(
        "dashboard: a page of VMs",
        lambda vm, count: f"/ui/vms?page={vm // _DASHBOARD_PAGE + 1}",
        lambda vm, count: simulated.vm_name(vm // _DASHBOARD_PAGE * _DASHBOARD_PAGE),
        100.0,
        has_cookie=True,
    ),
    Question(
        "dashboard: one VM",
        lambda vm, count: f"/ui/vms/{simulated.vm_id(vm)}",
        lambda vm, count: simulated.vm_name(vm),
        None,
        has_cookie=True,
    ),
    Question(
        "dashboard: overview",
        lambda vm, count: "/",
        lambda vm, count: "</html>",
        None,
        has_cookie=True,
    ),
)


class WrongAnswer(daemon.StepFailed):
    """The answer does not hold what was asked for."""

    code = "wrong_answer"


def ask(
    socket: Path, token: str, question: Question, vms: int, samples: int
) -> list[float]:
    """Return how long each of so many answers took, in seconds.

    VMs are picked evenly over the fleet, the same ones in each run.
    """
    chance = random.Random(question.name)
    headers = {
        **(question.headers or {}),
        **(
            {"Cookie": f"skerry={token}"}
            if question.has_cookie
            else {"Authorization": f"Bearer {token}"}
        ),
    }
    times = []
    with Connection.unix(socket) as connection:
        for _ in range(samples):
            vm = chance.randrange(vms)
            target = question.target(vm, vms)
            answer = connection.exchange("GET", target, None, headers)
            check(answer, target, question.sign(vm, vms))
            times.append(answer.elapsed_s)
    return times


def check(answer: Answer, target: str, sign: str) -> None:
    """Raise WrongAnswer unless it is a good answer that holds the sign."""
    if answer.status != 200 or sign.encode() not in answer.body:
        raise WrongAnswer(
            f"{target}: {answer.status}, no {sign!r} in {answer.body[:500]!r}"
        )
