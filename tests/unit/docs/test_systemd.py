"""Check the systemd units that docs/install.md tells people to install."""

import configparser
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from node.http.front import Front

ROOT = Path(__file__).resolve().parents[3]
UNITS = sorted((ROOT / "docs/systemd").iterdir())
PROGRAMS = "/opt/skerry/.venv/bin"
PRODUCT = ("skerry-node", "skerry-aggregator")
STORAGE = "skerry-storage"
MODULES = (STORAGE, "skerry-transfer")
FRONTS = {
    "skerry-node-nginx": "/run/skerry",
    "skerry-aggregator-nginx": "/run/skerry-aggregator",
}


def _read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.read_string(path.read_text())
    return parser


def test_unit_is_there_for_each_service() -> None:
    names = {*PRODUCT, *FRONTS, *MODULES}
    assert {path.name for path in UNITS} == {f"{name}.service" for name in names}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_unit_is_started_again_for_ever(unit: Path) -> None:
    parser = _read(unit)
    assert parser["Service"]["Restart"] == "always"
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.parametrize("name", PRODUCT)
def test_unit_starts_a_program_of_ours(name: str) -> None:
    parser = _read(ROOT / f"docs/systemd/{name}.service")
    program, word = parser["Service"]["ExecStart"].split()
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"]
    assert f"\n{name} = " in scripts
    assert (program, word) == (f"{PROGRAMS}/{name}", "run")


@pytest.mark.parametrize("name", MODULES)
def test_process_is_started_as_a_module_of_ours(name: str) -> None:
    parser = _read(ROOT / f"docs/systemd/{name}.service")
    program, *words, module = parser["Service"]["ExecStart"].split()
    assert (program, words) == (f"{PROGRAMS}/python", ["-I", "-m"])
    assert (ROOT / Path(*module.split(".")) / "__main__.py").exists()


def test_storage_process_is_not_stopped_with_anything_else() -> None:
    for unit in UNITS:
        parser = _read(unit)
        assert not {"Requires", "BindsTo", "PartOf", "Conflicts"} & set(parser["Unit"])
    node = _read(ROOT / "docs/systemd/skerry-node.service")
    assert f"{STORAGE}.service" in node["Unit"]["After"].split()
    assert f"{STORAGE}.service" in node["Unit"]["Wants"].split()


@pytest.mark.parametrize("name", FRONTS)
def test_unit_runs_nginx_as_the_product_does(name: str) -> None:
    parser = _read(ROOT / f"docs/systemd/{name}.service")
    front = Front(Path(FRONTS[name]), lambda: "")
    argv = shlex.split(parser["Service"]["ExecStart"])
    assert tuple(argv) == front.argv("/usr/sbin/nginx")
    assert f"test -e {front.configuration};" in parser["Service"]["ExecStartPre"]


def test_install_names_each_unit() -> None:
    text = (ROOT / "docs/install.md").read_text()
    assert all(unit.stem in text for unit in UNITS)


def test_units_are_what_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    here = str(Path(sys.executable).parent)
    for unit in UNITS:
        text = unit.read_text().replace(PROGRAMS, here)
        # No front can be started where nginx is not installed; its name is no matter.
        text = text.replace("ExecStart=/usr/sbin/nginx", "ExecStart=/bin/true")
        (tmp_path / unit.name).write_text(text)
    argv = ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
