"""Hold the tree to its rules, and each rule to a bad sample that it must find."""

from collections.abc import Callable, Mapping
from typing import Final

import pytest

from tests.architecture import (
    call_rules,
    import_rules,
    mention_rules,
    shape_rules,
    source,
)
from tests.architecture.source import Import, Source

Rule = Callable[[list[Source]], list[str]]

RULES: Final[Mapping[str, Rule]] = {
    "doors": import_rules.check_doors,
    "aggregator-doors": import_rules.check_aggregator_doors,
    "database": import_rules.check_database,
    "bans": import_rules.check_bans,
    "standard-library": import_rules.check_standard_library,
    "pure": import_rules.check_pure,
    "clock": call_rules.check_clock,
    "ids": call_rules.check_ids,
    "texts": call_rules.check_texts,
    "names": shape_rules.check_names,
    "sizes": shape_rules.check_sizes,
    "mentions": mention_rules.check_mentions,
}

LONG_FUNCTION: Final = "def long():\n" + "    pass\n" * shape_rules.FUNCTION_LINES_MAX
FULL_FUNCTION: Final = LONG_FUNCTION.removesuffix("    pass\n")
LONG_FILE: Final = "x = 1\n" * (shape_rules.FILE_LINES_MAX + 1)

# Rule, path, text that breaks the rule.
BAD: Final = (
    ("doors", "node/vm/lifecycle.py", "import libvirt"),
    ("doors", "node/vm/lifecycle.py", "def f():\n    from subprocess import run"),
    ("doors", "node/feed.py", "import sqlite3"),
    ("doors", "node/discovery.py", "from dbus.mainloop import glib"),
    ("aggregator-doors", "aggregator/app.py", "import psutil"),
    ("database", "aggregator/rest/vms.py", "from sqlalchemy import select"),
    ("database", "node/store.py", "import alembic.config"),
    ("database", "aggregator/registry.py", "import sqlite3"),
    ("bans", "aggregator/rest/vms.py", "from node.vm import states"),
    ("bans", "aggregator/app.py", "import node"),
    ("bans", "aggregator/app.py", "from node.hooks import points"),
    ("bans", "node/app.py", "from aggregator import db"),
    ("bans", "node/app.py", "from tests.fakes import clock"),
    ("bans", "node/vm/lifecycle.py", "from node import storage"),
    ("bans", "node/vm/lifecycle.py", "from ..storage import pool"),
    ("bans", "node/vm/__init__.py", "from .. import network"),
    ("bans", "node/host/enrol.py", "from node.api import host"),
    ("bans", "node/system/netlink.py", "from node import store"),
    ("bans", "node/app.py", "from node.transfer import __main__ as server"),
    ("standard-library", "node/model/vm.py", "from node import wire"),
    ("standard-library", "node/errors.py", "import requests"),
    ("standard-library", "node/storage/process/server.py", "import flask"),
    ("standard-library", "node/storage/process/steps.py", "from node import store"),
    ("standard-library", "hooks/hooking.py", "from lxml import etree"),
    ("pure", "node/model/vm.py", "import time"),
    ("pure", "node/policy/spm.py", "from node import clock"),
    ("pure", "node/vm/devices/disk.py", "import os.path"),
    ("pure", "node/wire.py", "from urllib import request"),
    ("pure", "aggregator/policies/balance.py", "from aggregator import db"),
    ("pure", "aggregator/scheduling/place.py", "import flask"),
    ("clock", "node/vm/states.py", "import time\ntime.time()"),
    ("clock", "aggregator/app.py", "import datetime\ndatetime.datetime.now()"),
    ("ids", "node/wire.py", "import uuid\nuuid.uuid4()"),
    ("ids", "aggregator/scheduling/place.py", "from uuid import uuid4\nuuid4()"),
    ("texts", "aggregator/rest/events.py", "messages.text(code, fields)"),
    ("texts", "node/cli/render.py", "messages.remedy(code, fields)"),
    ("names", "node/vm/utils.py", ""),
    ("names", "tests/common/__init__.py", ""),
    ("sizes", "node/vm/lifecycle.py", LONG_FUNCTION),
    ("sizes", "aggregator/db.py", LONG_FILE),
    ("mentions", "docs/install.md", "see /" + "work/main"),
    ("mentions", "node/app.py", 'PATH = "/' + 'home/ann/skerry"'),
    ("mentions", "package-lock.json", "https://registry.npmjs" + ".org/x.tgz"),
    ("mentions", "kickstart/node.ks", "http://deb.debian" + ".org/debian"),
)

# Rule, path, text that looks like it, but keeps the rule.
GOOD: Final = (
    ("doors", "node/system/libvirt_hypervisor.py", "import libvirt, libvirt_qemu"),
    ("doors", "tests/lab/command.py", "import subprocess"),
    ("doors", "node/vm/lifecycle.py", "from node.system import hypervisor"),
    ("aggregator-doors", "aggregator/discovery.py", "import dbus\nimport dbus.service"),
    ("database", "aggregator/db.py", "import sqlalchemy, sqlite3"),
    ("database", "node/store.py", "import sqlite3"),
    ("database", "aggregator/migrations/env.py", "from alembic import context"),
    ("bans", "aggregator/app.py", "from node.hooks import runner"),
    ("bans", "aggregator/app.py", "from node.model import Vm\nfrom node import wire"),
    ("bans", "node/app.py", "from node import vm, storage"),
    ("bans", "node/vm/lifecycle.py", "from . import states\nfrom node.vms import x"),
    ("standard-library", "node/model/vm.py", "import enum\nfrom node.model import ids"),
    ("pure", "node/wire.py", "from urllib import parse\nfrom node.model import Vm"),
    ("pure", "node/vm/domxml.py", "from lxml import etree"),
    ("pure", "node/vm/lifecycle.py", "import time"),
    ("clock", "node/clock.py", "datetime.now(UTC)"),
    ("clock", "node/http/client.py", "time.monotonic()"),
    ("ids", "aggregator/control/orders.py", "uuid.uuid4()"),
    ("ids", "node/vm/states.py", 'uuid.uuid5(of, "disk")'),
    ("texts", "aggregator/rest/events.py", "translate.text(code, fields)"),
    ("texts", "aggregator/dashboard/rows.py", "messages.text(code, fields, to)"),
    ("texts", "aggregator/federation/mirror.py", "messages.text(code, fields)"),
    ("names", "node/storage/pool.py", "from node.vm import utils"),
    ("sizes", "node/vm/lifecycle.py", FULL_FUNCTION),
    ("sizes", "tests/lab/lab.py", LONG_FILE),
    ("mentions", "tests/lab/layout.py", 'f"workdir={upper}/work/"'),
    ("mentions", "docs/install.md", "read debian.org about /network/ and work/"),
)


def _ids(samples: tuple[tuple[str, str, str], ...]) -> list[str]:
    return [f"{rule}-{number}" for number, (rule, _, _) in enumerate(samples)]


@pytest.fixture(scope="module")
def tree() -> list[Source]:
    return source.read()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_tree_keeps_the_rule(rule: Rule, tree: list[Source]) -> None:
    assert "\n".join(rule(tree)) == ""


@pytest.mark.parametrize(("rule", "path", "text"), BAD, ids=_ids(BAD))
def test_rule_finds_a_bad_sample(rule: str, path: str, text: str) -> None:
    (complaint,) = RULES[rule]([Source(path, text)])
    assert complaint.startswith(path)


@pytest.mark.parametrize(("rule", "path", "text"), GOOD, ids=_ids(GOOD))
def test_rule_passes_a_good_sample(rule: str, path: str, text: str) -> None:
    assert RULES[rule]([Source(path, text)]) == []


def test_aggregator_doors_finds_a_second_file() -> None:
    sources = [
        Source("aggregator/cli/x.py", "import subprocess"),
        Source("aggregator/notify/y.py", "import subprocess"),
    ]
    (complaint,) = import_rules.check_aggregator_doors(sources)
    assert complaint.startswith("aggregator/notify/y.py")


def test_read_finds_the_product(tree: list[Source]) -> None:
    paths = {file.path for file in tree}
    assert {"node/__init__.py", "aggregator/__init__.py", "setup.cfg"} <= paths


def test_read_skips_what_tools_made(tree: list[Source]) -> None:
    assert not [file for file in tree if "/vendor/" in file.path]
    assert not [file for file in tree if file.path.startswith((".venv", "build"))]


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        pytest.param("node/a.py", "import node.wire", "node.wire", id="plain"),
        pytest.param("node/a.py", "from node import wire", "node.wire", id="from"),
        pytest.param("node/a.py", "from . import wire", "node.wire", id="sibling"),
        pytest.param("node/vm/a.py", "from .. import wire", "node.wire", id="parent"),
        pytest.param("node/vm/__init__.py", "from .b import c", "node.vm.b.c", id="in"),
        pytest.param("node/a.py", "from os import *", "os.*", id="star"),
    ],
)
def test_imports_names_what_is_imported(path: str, text: str, name: str) -> None:
    assert source.imports(Source(path, text)) == (Import(1, name),)
