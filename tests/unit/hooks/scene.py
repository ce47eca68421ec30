"""Run a sample hook as the agent does, on the XML that the agent builds."""

import functools
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import pytest
from lxml import etree

from node.contract.volumes import Layer, OpenVolume
from node.model.ids import NicId
from node.model.storage import DiskFormat
from node.model.vm import Cpu, Vm, VmSpec
from node.vm import domxml
from tests.fakes.volumes import of_pool
from tests.unit.node.vm import examples

HOOKS = Path(__file__).resolve().parents[3] / "hooks"
VM_ID = str(examples.VM_ID)
MAC = examples.NIC.mac
OTHER_MAC = "52:54:00:00:00:02"
_SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")

# Values that mean something to a shell, to XML, to Python or to a parser of numbers.
HOSTILE = {
    "empty": "",
    "quotes": "'\"",
    "command": "$(touch /tmp/hooked)",
    "backticks": "`id`;id|id&&id",
    "line": "1\n2",
    "trailing-line": "1\n",
    "entity": "&xxe;<!ENTITY xxe SYSTEM 'file:///etc/passwd'>",
    "element": "1'/><devices/>",
    "expression": "__import__('os').system('id')",
    "huge": "9" * 5000,
    "negative": "-1",
    "nested": "(" * 4000,
    "arabic-digits": "\u0661",
    "control": "\x01\x1b[31m",
    "not-utf-8": "\udcff",
}
hostile = pytest.mark.parametrize(
    "value", [pytest.param(value, id=key) for key, value in HOSTILE.items()]
)


@dataclass(frozen=True, slots=True)
class Outcome:
    returncode: int
    stderr: str
    before: str  # the payload as the script got it
    after: str  # the payload as the script left it

    @property
    def is_untouched(self) -> bool:
        return self.before == self.after

    @property
    def tree(self) -> etree._Element:
        return etree.fromstring(self.after.encode())

    @property
    def json(self) -> object:
        return json.loads(self.after)


@functools.cache
def domain_xml() -> str:
    """Return the XML of a q35 VM with one disk and two cards."""
    other = replace(
        examples.NIC,
        nic_id=NicId("cccccccc-0000-4000-8000-000000000002"),
        name="dmz",
        mac=OTHER_MAC,
    )
    return _build(replace(examples.SPEC, nics=(examples.NIC, other), cpu=Cpu(cores=2)))


@functools.cache
def element_xml(path: str) -> str:
    """Return a part of that XML, as the points of devices get it."""
    found = etree.fromstring(domain_xml()).find(path)
    assert found is not None, path
    return etree.tostring(found, encoding="unicode", with_tail=False)


def run(
    name: str,
    point: str,
    properties: Mapping[str, str],
    payload: str | None = None,
    *,
    folder: Path,
    programs: Path | None = None,
) -> Outcome:
    """Run the script `name` of a point; `folder` is its working and run folder.

    A payload of None is `domain_xml()`; one that is not XML is given as JSON.
    The properties are all that the environment holds but what the agent sets.
    `programs` is a folder that is searched before the machine's own programs.
    """
    before = domain_xml() if payload is None else payload
    file = folder / "payload"
    file.write_text(before)
    inode = file.stat().st_ino
    kind = "_hook_domxml" if before.startswith("<") else "_hook_json"
    search = "/usr/sbin:/usr/bin:/sbin:/bin"
    process = subprocess.run(
        [HOOKS / name / point / f"50_{name}"],
        env={
            "PATH": f"{programs}:{search}" if programs else search,
            "PYTHONPATH": os.fspath(HOOKS),
            # Nothing of a test is left beside the sources.
            "PYTHONDONTWRITEBYTECODE": "1",
            "SKERRY_HOOKS_RUN": os.fspath(folder),
            "vmId": VM_ID,
            kind: os.fspath(file),
            **properties,
        },
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
    )
    assert file.stat().st_ino == inode, "the agent refuses a file that was replaced"
    return Outcome(process.returncode, process.stderr, before, file.read_text())


def assert_refused(outcome: Outcome, property_name: str) -> None:
    """Check that the script ended with one sentence and changed nothing."""
    assert outcome.returncode == 2, outcome.stderr
    assert outcome.is_untouched
    assert property_name in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.count("\n") == 1, outcome.stderr
    assert len(outcome.stderr) < 1000
    assert outcome.stderr.removesuffix("\n").isprintable()


def assert_valid(outcome: Outcome) -> None:
    """Check that the script succeeded and libvirt's schema accepts the domain."""
    assert outcome.returncode == 0, outcome.stderr
    problems = schema_problems(outcome.after)
    assert not problems, problems


def canonical(xml: str | etree._Element) -> str:
    """Return XML in the one form that what means the same has."""
    text = xml if isinstance(xml, str) else etree.tostring(xml, encoding="unicode")
    return str(etree.canonicalize(text))


def attributes(element: etree._Element) -> dict[str, str]:
    """Return the attributes of an element."""
    return {str(name): str(value) for name, value in element.items()}


def may_be_set(name: str, property_name: str, value: str) -> bool:
    """Return whether the fleet would let a user set this value."""
    declared = json.loads((HOOKS / name / "properties.json").read_text())
    (pattern,) = (each["pattern"] for each in declared if each["name"] == property_name)
    return re.fullmatch(pattern, value) is not None


def schema_problems(xml: str) -> str:
    """Return what libvirt's schema dislikes in a domain, or nothing."""
    if not _SCHEMA.exists():
        pytest.skip(f"libvirt's schema of domains is missing: {_SCHEMA}")
    schema = _read_schema()
    if schema.validate(etree.fromstring(xml.encode())):
        return ""
    return str(schema.error_log)


@functools.cache
def _read_schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(_SCHEMA))


def _build(spec: VmSpec) -> str:
    opened = {
        each.disk_id: OpenVolume(
            (Layer(PurePath("/pool", f"{each.disk_id}.qcow2"), DiskFormat.QCOW2),)
        )
        for each in spec.disks
    }
    vm = Vm(of_pool(spec), 1, examples.AT, addresses=domxml.assign_addresses(spec))
    return domxml.build(vm, spec.name, replace(examples.HERE, opened=opened))
