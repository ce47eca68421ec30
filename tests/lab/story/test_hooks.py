"""Hooks of real guests: samples do what they say, and scripts that hang disturb nobody.

Three hosts as in `test_pool_vms`; the scripts lie on h1 alone.
"""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab, members, soak_break, waiting
from tests.lab.story.test_pool_vms import Refused, Three, made

pytestmark = pytest.mark.lab

ROOT = "/etc/skerry/hooks"
STATE = "/run/skerry/hooks/state"
SAMPLES = members.CHECKOUT / "hooks"
RECORDED = (
    "before_vm_start",
    "after_vm_start",
    "before_vm_pause",
    "after_vm_pause",
    "before_vm_cont",
    "after_vm_cont",
    "before_vm_destroy",
    "after_vm_destroy",
    "before_vm_hibernate",
    "after_vm_hibernate",
    "before_vm_dehibernate",
    "after_vm_dehibernate",
)
RECORD = '#!/bin/sh\nbasename "$(dirname "$0")" >>"$SKERRY_HOOKS_RUN/points"\n'


class Hooked:
    """Three hosts, of which the first has hooks."""

    def __init__(self, three: Three) -> None:
        self.three = three
        self.h1 = three["h1"]
        self.member = three.lab.member("h1")

    def shell(self, script: str) -> str:
        done = self.member.exec(["sh", "-c", script], timeout_s=60.0)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def put(self, point: str, name: str, text: str) -> None:
        """Put a script on the host, as its administrator does."""
        data = base64.b64encode(text.encode()).decode()
        path = f"{ROOT}/{point}/{name}"
        self.shell(
            f"mkdir -p {ROOT}/{point} && echo {data} | base64 -d >{path}"
            f" && chmod 0755 {path}"
        )

    def put_sample(self, name: str) -> None:
        for script in (SAMPLES / name).glob(f"*/50_{name}"):
            self.put(script.parent.name, script.name, script.read_text())

    def give(self, **properties: str) -> None:
        """Give the VM custom properties."""
        words = [{"name": name, "value": value} for name, value in properties.items()]
        path = f"/vms/{self.three.vm}/properties"
        self.h1.do(path, {"custom_properties": words})

    def act(self, verb: str, **how: Any) -> None:
        self.h1.do(f"/vms/{self.three.vm}/{verb}", how)

    def points(self) -> list[str]:
        return self.shell(f"cat {STATE}/points 2>/dev/null || true").split()

    def wait_point(self, point: str, count: int = 1) -> None:
        waiting.until(point, lambda: self.points().count(point) >= count)

    def serial(self) -> str:
        argv = ["curl", "-sS", "--unix-socket", "/run/skerry/local.sock"]
        url = f"http://node/v1/vms/{self.three.vm}/serial"
        return self.member.exec([*argv, url]).stdout

    def events(self, code: str) -> list[Any]:
        told = self.h1.call("GET", "/events")["events"]
        return [each["fields"] for each in told if each["code"] == code]


@pytest.fixture
def hooked(lab: Lab) -> Iterator[Hooked]:
    with made(lab) as three:
        found = Hooked(three)
        try:
            yield found
        finally:
            found.shell(f"rm -rf {ROOT} {STATE}/points")


def test_samples_shape_a_guest(hooked: Hooked) -> None:
    for name in ("smbios", "pincpu", "numa"):
        hooked.put_sample(name)
    hooked.give(smbios="{'serial':'4711'}^{'manufacturer':'Skerry Yard'}", pincpu="0")
    trial = hooked.h1.call(
        "POST", "/hooks/try", {"point": "before_vm_start", "vm_id": hooked.three.vm}
    )
    assert [each["script"] for each in trial["runs"]] == [
        "50_numa",
        "50_pincpu",
        "50_smbios",
    ]
    assert trial.get("error", "") == ""
    assert trial.get("warnings", []) == []
    hooked.act("start")
    vendor = "cat /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/product_serial"
    hooked.h1.guest(hooked.three.vm, f"{vendor} >/dev/ttyS0 2>&1")
    waiting.until("what the guest reads", lambda: "4711" in hooked.serial())
    assert "Skerry Yard" in hooked.serial()
    pids = f"pgrep -f 'guest=.*uuid {hooked.three.vm}|{hooked.three.vm}' -o"
    tasks = hooked.shell(
        f"for t in /proc/$({pids})/task/*; do"
        ' echo "$(cat $t/comm) $(sed -n s/Cpus_allowed_list:.//p $t/status)"; done'
    )
    threads = [line for line in tasks.splitlines() if line.startswith("CPU ")]
    assert threads
    assert {line.rpartition(" ")[2] for line in threads} == {"0"}


def test_points_follow_what_becomes_of_a_vm(hooked: Hooked) -> None:
    for point in RECORDED:
        hooked.put(point, "10_record", RECORD)
    hooked.three.start("h1")
    hooked.wait_point("after_vm_start")
    hooked.act("pause")
    hooked.wait_point("after_vm_pause")
    hooked.act("resume")
    hooked.wait_point("after_vm_cont")
    hooked.act("suspend")
    hooked.wait_point("after_vm_destroy")
    hooked.act("start")
    hooked.wait_point("after_vm_dehibernate")
    hooked.act("stop", manner="force")
    hooked.wait_point("after_vm_destroy", 2)
    assert hooked.points() == [
        "before_vm_start",
        "after_vm_start",
        "before_vm_pause",
        "after_vm_pause",
        "before_vm_cont",
        "after_vm_cont",
        "before_vm_hibernate",
        "after_vm_hibernate",
        "before_vm_destroy",
        "after_vm_destroy",
        "before_vm_dehibernate",
        "after_vm_dehibernate",
        "before_vm_destroy",
        "after_vm_destroy",
    ]


def test_hook_that_says_no_keeps_a_vm_down(hooked: Hooked) -> None:
    hooked.put("before_vm_start", "50_no", "#!/bin/sh\necho no licence >&2\nexit 2\n")
    with pytest.raises(Refused) as caught:
        hooked.act("start")
    assert caught.value.args[0] == "hook_failed"
    assert "50_no: no licence" in caught.value.args[1]
    (told,) = hooked.events("hook_failed")
    assert (told["script"], told["detail"]) == ("50_no", "no licence")
    # Its lease is free: another host, which has no such hook, may start it.
    hooked.three.start("h2")
    hooked.three["h2"].do(f"/vms/{hooked.three.vm}/stop", {"manner": "force"})


def test_edit_that_libvirt_refuses_names_its_script(hooked: Hooked) -> None:
    words = {"40_good": "<title>t</title>", "50_bad": "<vcpu>many</vcpu>"}
    for name, word in words.items():
        text = f"""sed -i 's:<name>:{word}<name>:' "$_hook_domxml"\n"""
        hooked.put("before_vm_start", name, f"#!/bin/sh\n{text}")
    with pytest.raises(Refused) as caught:
        hooked.act("start")
    assert caught.value.args[0] == "hook_edit_refused"
    assert "50_bad" in caught.value.args[1]
    assert "40_good" not in caught.value.args[1]


def test_hook_that_hangs_holds_up_nobody(hooked: Hooked) -> None:
    hang = "#!/bin/sh\ntrap '' TERM\n(setsid sleep 600 &)\nsleep 600\n"
    hooked.put("after_vm_start", "50_hang", hang)
    began = time.monotonic()
    hooked.three.start("h1")
    hooked.act("pause")
    hooked.act("resume")
    took_s = time.monotonic() - began
    count = hooked.three.count()
    waiting.until("more stamps", lambda: hooked.three.count() > count)
    assert hooked.h1.answers()
    jobs = json.dumps(hooked.h1.call("GET", "/jobs"))
    assert "hook_tell" in jobs
    soak_break.kill(hooked.member.service_pid("agent"))
    waiting.until("the agent", hooked.h1.answers)
    sleepers = "pgrep -f 'sleep 600' | wc -l"
    waiting.until("one run of it", lambda: int(hooked.shell(sleepers)) <= 2)
    print(f"started, paused and resumed in {took_s:.1f} s beside a hook that hangs")
    hooked.act("stop", manner="force")


def test_scripts_are_facts_of_the_node(hooked: Hooked) -> None:
    hooked.put_sample("smbios")
    listed = hooked.h1.call("GET", "/hooks")
    (script,) = listed["scripts"]
    data = Path(SAMPLES / "smbios/before_vm_start/50_smbios").read_bytes()
    assert (script["point"], script["name"]) == ("before_vm_start", "50_smbios")
    assert script["size_bytes"] == len(data)
