"""The names of VDSM that VDSM's own hooks import, and what they mean here."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.hooks import scene

# The lines of VDSM's hooks that import something of VDSM.
_IMPORTS = (
    "import hooking",
    "from vdsm import client",
    "from vdsm import constants",
    "from vdsm import cpuinfo",
    "from vdsm import libvirtconnection",
    "from vdsm import osinfo",
    "from vdsm import utils",
    "from vdsm.common import cmdutils",
    "from vdsm.common import commands",
    "from vdsm.common import constants",
    "from vdsm.common import cpuarch",
    "from vdsm.common import fileutils",
    "from vdsm.common import libvirtconnection",
    "from vdsm.common.cmdutils import CommandPath",
    "from vdsm.common.config import config",
    "from vdsm.common.conv import tobool",
    "from vdsm.common.units import MiB, GiB",
    "from vdsm.config import config",
    "from vdsm.hook import hooking",
    "from vdsm.network import ipwrapper",
    "from vdsm.network import netinfo",
    "from vdsm.network import netswitch",
    "from vdsm.network.api import DUMMY_BRIDGE",
    "from vdsm.network.ipwrapper import Link",
    "from vdsm.network.link.bond import Bond",
    "from vdsm.network.netconfpersistence import RunningConfig",
    "import vdsm.network.netconfpersistence as persist_net",
    "import vdsm.common.constants",
    "import vdsm.utils",
)
_MEANINGS = (
    ("from vdsm.hook import hooking as a; import hooking as b", "a.log is b.log"),
    ("from vdsm.common.conv import tobool", "tobool('true') and not tobool('no')"),
    ("from vdsm.common.units import MiB, GiB", "GiB == 1024 * MiB == 1 << 30"),
    ("from vdsm import constants as c", "c.P_VDSM_HOOKS == '/usr/libexec/vdsm/hooks/'"),
    ("from vdsm.common import constants as c", "c.SYSCONF_PATH == '/etc'"),
    ("from vdsm import cpuinfo", "isinstance(cpuinfo.flags(), list)"),
    (
        "from vdsm.common import cpuarch; import platform",
        "cpuarch.real() == cpuarch.effective() == platform.machine()",
    ),
    ("from vdsm.common.cpuarch import *", "is_ppc(PPC64LE) and not is_x86(PPC64LE)"),
    ("from vdsm.common import commands", "commands.run(['cat'], input=b'a') == b'a'"),
    ("from vdsm.common.commands import execCmd as c", "c(['echo', 'a'])[1] == [b'a']"),
    (
        "from vdsm.common.cmdutils import CommandPath as C",
        "str(C('sh', '/no/such', '/bin/sh')) == '/bin/sh'",
    ),
    (
        "from vdsm.common.cmdutils import CommandPath as C",
        "C('true', '/no/such').cmd.endswith('/true')",
    ),
    ("from vdsm.config import config", "config.getboolean('vars', 'ssl')"),
    ("from vdsm.config import config", "config['vars']['fake_kvm_support'] == 'false'"),
    ("from vdsm.network.link.bond import Bond", "Bond('no-such').slaves == set()"),
    ("from vdsm.network import api", "api.DUMMY_BRIDGE == ';vdsmdummy;'"),
    ("from vdsm.network import ipwrapper", "ipwrapper._IP_BINARY.name == 'ip'"),
    (
        "from vdsm.utils import closing; from io import StringIO; f = StringIO()",
        "[closing(f).__exit__(None, None, None), f.closed][1]",
    ),
)


def _python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code as a script of the hooks is run."""
    return subprocess.run(
        ["/usr/bin/python3", "-c", code],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "PYTHONPATH": os.fspath(scene.HOOKS),
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _tell(code: str, expression: str, **variables: str) -> str:
    process = _python(f"{code}\nprint({expression})", **variables)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


@pytest.mark.parametrize("line", _IMPORTS)
def test_names_are_imported_as_vdsm_hooks_do(line: str) -> None:
    process = _python(line)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(("line", "expression"), _MEANINGS)
def test_names_mean_what_they_do_in_vdsm(line: str, expression: str) -> None:
    assert _tell(line, expression) == "True"


@pytest.mark.parametrize(
    "code",
    [
        "from vdsm import client; client.connect('localhost', use_tls=True)",
        "from vdsm.network import netconfpersistence as n; n.RunningConfig()",
        "from vdsm.network import netconfpersistence as n; n.PersistentConfig()",
        "from vdsm.network import netinfo; netinfo.cache.NetInfo({})",
        "from vdsm.network import netswitch; netswitch.configurator.netinfo()",
    ],
)
def test_names_that_are_not_served_say_so(code: str) -> None:
    process = _python(code)
    assert process.returncode == 1
    assert "is not served here: " in process.stderr.splitlines()[-1]


def test_a_hook_reads_and_writes_through_vdsm_hook(tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.write_text('{"a": 1}')
    code = (
        "from vdsm.hook import hooking\n"
        "data = hooking.read_json()\n"
        "data['a'] += 1\n"
        "hooking.write_json(data)\n"
        "hooking.exit_hook('enough', return_code=1)"
    )
    process = _python(code, _hook_json=os.fspath(payload))
    assert (process.returncode, process.stderr) == (1, "enough\n")
    assert payload.read_text() == '{"a": 2}'


def test_settings_are_read_from_the_file_of_vdsm(tmp_path: Path) -> None:
    file = tmp_path / "vdsm.conf"
    file.write_text("[vars]\nfake_kvm_support = 1\nfake_kvm_architecture = ppc64le\n")
    told = _tell(
        "from vdsm.common import cpuarch",
        "cpuarch.effective()",
        SKERRY_HOOKS_CONF=os.fspath(file),
    )
    assert told == "ppc64le"


def test_run_folder_is_the_one_of_the_node(tmp_path: Path) -> None:
    told = _tell(
        "from vdsm import constants",
        "constants.P_VDSM_RUN",
        SKERRY_HOOKS_RUN=os.fspath(tmp_path),
    )
    assert told == f"{tmp_path}/"


@pytest.mark.parametrize(
    ("module", "setting", "told"),
    [
        ("kvm_amd", "1\n", "NestedVirtualization(enabled=True, kvm_module='kvm_amd')"),
        ("kvm_intel", "N\n", "NestedVirtualization(enabled=False, kvm_module=None)"),
    ],
)
def test_osinfo_tells_whether_vms_may_run_vms(
    tmp_path: Path, module: str, setting: str, told: str
) -> None:
    file = tmp_path / "module" / module / "parameters" / "nested"
    file.parent.mkdir(parents=True)
    file.write_text(setting)
    answer = _tell(
        "from vdsm import osinfo",
        "osinfo.nested_virtualization()",
        SKERRY_HOOKS_SYS=os.fspath(tmp_path),
    )
    assert answer == told


def test_bond_knows_its_cards(tmp_path: Path) -> None:
    file = tmp_path / "class" / "net" / "bond0" / "bonding" / "slaves"
    file.parent.mkdir(parents=True)
    file.write_text("em1 em2\n")
    answer = _tell(
        "from vdsm.network.link.bond import Bond",
        "sorted(Bond('bond0').slaves)",
        SKERRY_HOOKS_SYS=os.fspath(tmp_path),
    )
    assert answer == "['em1', 'em2']"


@pytest.mark.parametrize(("folder", "kind"), [("bridge", "bridge"), ("x", "nic")])
def test_link_knows_a_bridge(tmp_path: Path, folder: str, kind: str) -> None:
    (tmp_path / "class" / "net" / "br0" / folder).mkdir(parents=True)
    answer = _tell(
        "from vdsm.network.ipwrapper import Link",
        "Link._detectType('br0')",
        SKERRY_HOOKS_SYS=os.fspath(tmp_path),
    )
    assert answer == kind


def test_command_that_fails_is_an_error_with_its_code() -> None:
    answer = _tell(
        "from vdsm.common import cmdutils, commands\n"
        "try: commands.run(['sh', '-c', 'echo a; echo b >&2; exit 3'])\n"
        "except cmdutils.Error as error: e = error",
        "(e.rc, e.out, e.err)",
    )
    assert answer == "(3, b'a\\n', b'b\\n')"


def test_files_are_removed_though_they_are_gone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    code = f"from vdsm.common import fileutils as f; path = {os.fspath(file)!r}\n"
    touch_and_remove = "f.touch_file(path); f.rm_file(path); f.rm_file(path)"
    assert _python(code + touch_and_remove).returncode == 0
    assert not file.exists()


def test_every_name_that_is_served_is_in_the_list() -> None:
    text = (scene.HOOKS.parent / "docs" / "hooks-vdsm-names.md").read_text()
    for path in sorted((scene.HOOKS / "vdsm").rglob("*.py")):
        name = path.read_text().splitlines()[0]
        if name.startswith('"""Be `'):
            assert name.split("`")[1] in text, path
