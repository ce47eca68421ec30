"""Ask a host's agent on its own socket, as its own shell does, without the shell.

A program in Python takes half a second of a processor to begin, curl does not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.lab import running, waiting

SOCKET: Final = "/run/skerry/local.sock"
JOB_S: Final = 120.0
_ANSWER_S: Final = 30  # before the agent is called silent
_LOOK_S: Final = 5  # how long one look at a job waits for its end


class Refused(Exception):
    """The answer, or the job, was an error: code and message are the arguments."""


@dataclass(frozen=True, slots=True)
class Agent:
    """One host's agent."""

    member: running.Member

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return the answer; Refused, with the code "silent" if there is none."""
        argv = ["curl", "-sS", "-m", str(_ANSWER_S), "--unix-socket", SOCKET]
        argv += ["-X", method, f"http://node/v1{path}"]
        if body is not None:
            argv += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        result = self.member.exec(argv, timeout_s=2 * _ANSWER_S)
        if result.returncode != 0:
            raise Refused("silent", result.stderr.strip())
        answer = json.loads(result.stdout)
        if "error" in answer and "code" in (answer["error"] or {}):
            raise Refused(answer["error"]["code"], answer["error"]["message"])
        return answer

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def do(
        self, path: str, body: Mapping[str, Any] | None = None, limit_s: float = JOB_S
    ) -> None:
        """Ask for a job, and wait for its end; Refused."""
        job = self.call("POST", path, body or {})

        def ended() -> Any:
            try:
                found = self.get(f"/jobs/{job['job_id']}?wait_s={_LOOK_S}")
            except Refused as error:
                if error.args[0] != "silent":
                    raise
                return None
            return found if "ended_at" in found else None

        done = waiting.until(f"{path} of {self.member.name}", ended, timeout_s=limit_s)
        if done["state"] != "done":
            raise Refused(done["error"]["code"], done["error"]["message"])

    def run_in_guest(self, vm_id: str, script: str) -> bool:
        """Begin a script in the guest; False: its agent does not answer (yet)."""
        arguments = {"path": "/bin/sh", "arg": ["-c", script]}
        words = json.dumps({"execute": "guest-exec", "arguments": arguments})
        argv = ["virsh", "-q", "qemu-agent-command", vm_id, words]
        return self.member.exec(argv).returncode == 0
