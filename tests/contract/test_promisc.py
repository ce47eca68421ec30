"""The sample promisc on a real bridge, in a network namespace of its own.

    q0 == p0 [bridge] tap0 == watch

What q0 sends to a neighbour is seen by who watches, although tap0 is no port of the
bridge.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.hooks import scene

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

BRIDGE = "lan0"
DOMAIN = (
    '<domain><devices><interface type="bridge"><mac address="52:54:00:00:00:01"/>'
    f'<source bridge="{BRIDGE}"/><target dev="tap0"/></interface></devices></domain>'
)
# Run inside: prints whether the frame was seen before, while and after it is mirrored.
_PROGRAM = """
import os, socket, subprocess, sys
def ip(words): subprocess.run(["ip", *words.split()], check=True)
for words in ("link add lan0 type bridge", "link add p0 type veth peer name q0",
              "link add tap0 type veth peer name watch", "link set p0 master lan0"):
    ip(words)
for name in ("lan0", "p0", "q0", "tap0", "watch"):
    ip(f"link set {name} up")
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sender.bind(("q0", 0))
watcher = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
watcher.bind(("watch", 0))
def seen(word):
    frame = bytes.fromhex("020000000009" "020000000001" "88b5") + word
    watcher.settimeout(0.2)
    for _ in range(25):
        sender.send(frame.ljust(60, b"."))
        try:
            while True:
                if word in watcher.recv(2000):
                    return True
        except TimeoutError:
            if word != b"while":
                return False
    return False
def script(point):
    subprocess.run([f"{sys.argv[1]}/{point}/50_promisc"], check=True)
before = seen(b"before")
script("after_vm_start")
script("after_vm_start")  # told twice
during = seen(b"while")
script("after_vm_destroy")
print(before, during, seen(b"after"))
"""


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "payload"
    path.write_text(DOMAIN)
    return path


def test_frames_between_neighbours_are_seen_until_the_vm_ends(
    tmp_path: Path, payload: Path
) -> None:
    argv = ["unshare", "--net", sys.executable, "-c", _PROGRAM]
    process = subprocess.run(
        [*argv, str(scene.HOOKS / "promisc")],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": str(scene.HOOKS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SKERRY_HOOKS_RUN": str(tmp_path),
            "vmId": scene.VM_ID,
            "_hook_domxml": str(payload),
            "promisc": f"{BRIDGE}:mirror",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["False", "True", "False"]
    assert process.stderr == ""
