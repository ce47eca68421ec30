"""An emulated machine that boots the image: its firmware, its medium, its console."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, Any, Final

from tests.ports import free_port

CHECKOUT: Final = Path(__file__).resolve().parents[2]
KEPT: Final = CHECKOUT / "build/image/boot"
# Emulated, and beside nothing else; on a machine that is busy it takes thrice as long.
BOOT_S: Final = 600.0
ADMISSION_PORT: Final = 7441
_LOOK_S: Final = 0.5
_ANSWER_S: Final = 10.0
_OVMF: Final = Path("/usr/share/OVMF")


class Medium(StrEnum):
    CD = "cd"
    USB = "usb"


class Firmware(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"


class NeverSaid(AssertionError):
    """The machine did not say what it should have."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that is on."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int  # of the host's loopback, leads to its admission
    began: float  # monotonic

    @property
    def console(self) -> str:
        """Return what it has said on its serial port."""
        return (self.folder / "console.log").read_text(errors="replace")

    def wait_for(self, text: str, timeout_s: float = BOOT_S) -> float:
        """Wait until it says something; return how long it has been on."""

        def is_said() -> bool:
            if text not in self.console and self.process.poll() is not None:
                raise NeverSaid(f"it ended before {text!r}: {self.console[-2000:]}")
            return text in self.console

        if not until(is_said, timeout_s):
            raise NeverSaid(f"no {text!r} in {timeout_s:g} s: {self.console[-2000:]}")
        return time.monotonic() - self.began

    def certificate(self) -> bytes:
        """Return the certificate of its admission, as DER."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        address = ("127.0.0.1", self.port)
        with (
            socket.create_connection(address, _ANSWER_S) as plain,
            context.wrap_socket(plain) as connection,
        ):
            found = connection.getpeercert(binary_form=True)
        assert found is not None
        return found

    def screenshot(self, name: str) -> Path:
        """Keep what its screen shows as a picture."""
        picture = KEPT / f"{name}.png"
        self.ask("screendump", filename=str(picture), format="png")
        return picture

    def ask(self, command: str, **arguments: Any) -> Any:
        """Ask QEMU for something; QMP."""
        answer: dict[str, Any] = {}
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_S)
            connection.connect(str(self.folder / "qmp"))
            with connection.makefile("rw") as lines:
                lines.readline()  # its greeting
                for words in (
                    {"execute": "qmp_capabilities"},
                    {"execute": command, "arguments": arguments},
                ):
                    lines.write(json.dumps(words) + "\n")
                    lines.flush()
                    answer = _answer(lines)
        assert "error" not in answer, answer
        return answer.get("return")


def _answer(lines: IO[str]) -> dict[str, Any]:
    """Return the next line that is an answer, not an event."""
    while True:
        said: dict[str, Any] = json.loads(lines.readline())
        if "event" not in said:
            return said


def until(is_so: Callable[[], bool], timeout_s: float) -> bool:
    """Look again and again; tell whether it became so."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


@contextlib.contextmanager
def on(
    image: Path, medium: Medium, firmware: Firmware, memory_mib: int = 1536
) -> Iterator[Machine]:
    """Switch a machine on that has the image as a medium, and nothing else."""
    KEPT.mkdir(parents=True, exist_ok=True)
    name = f"{medium}-{firmware}"
    with tempfile.TemporaryDirectory(prefix="skerry-boot-") as work:
        folder = Path(work)
        port = free_port()
        words = [
            *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"),
            *("-smp", "2", "-m", str(memory_mib), "-M", "q35", "-no-reboot"),
            *("-display", "none", "-vga", "std", "-no-user-config", "-nodefaults"),
            *("-serial", f"file:{folder}/console.log"),
            *("-qmp", f"unix:{folder}/qmp,server,nowait"),
            *_medium(image, medium),
            *_firmware(folder, firmware),
            "-nic",
            f"user,model=virtio,hostfwd=tcp:127.0.0.1:{port}-:{ADMISSION_PORT}",
        ]
        (folder / "console.log").touch()
        began = time.monotonic()
        with (folder / "qemu.log").open("wb") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log)
        machine = Machine(folder, process, port, began)
        try:
            yield machine
        finally:
            with contextlib.suppress(OSError, AssertionError):
                machine.screenshot(name)
            process.kill()
            process.wait()
            shutil.copyfile(folder / "console.log", KEPT / f"{name}.log")


def _medium(image: Path, medium: Medium) -> list[str]:
    if medium is Medium.CD:
        return ["-drive", f"file={image},media=cdrom,readonly=on,format=raw"]
    drive = f"if=none,id=stick,file={image},format=raw,readonly=on"
    return [
        "-device",
        "qemu-xhci",
        "-drive",
        drive,
        "-device",
        "usb-storage,drive=stick",
    ]


def _firmware(folder: Path, firmware: Firmware) -> list[str]:
    if firmware is Firmware.BIOS:
        return []
    variables = folder / "variables.fd"
    shutil.copyfile(_OVMF / "OVMF_VARS_4M.fd", variables)
    code = _OVMF / "OVMF_CODE_4M.fd"
    return [
        *("-drive", f"if=pflash,format=raw,readonly=on,file={code}"),
        *("-drive", f"if=pflash,format=raw,file={variables}"),
    ]
