"""What a node's options make of its hooks."""

from pathlib import Path

import pytest

from node.config import Config
from node.hooks import runner, settings
from node.model.options import BadOption
from node.units import MiB


def test_memory_of_a_script_is_an_option() -> None:
    assert Config().hook_memory_mib * MiB == runner.MEMORY_BYTES
    made = settings.make(Config(hook_memory_mib=1024))
    assert made._memory_bytes == 1024 * MiB


def test_deadline_of_a_point_is_an_option() -> None:
    made = settings.make(Config(hook_timeouts="before_vm_start=300, after_vdsm_stop=1"))
    assert made.timeout_s("before_vm_start") == 300.0
    assert made.timeout_s("before_vm_pause") == 60.0


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(Config(hook_timeouts="before_vm_begin=3"), id="no-such-point"),
        pytest.param(Config(hook_timeouts="before_vm_start=soon"), id="no-time"),
        pytest.param(Config(hook_user="vdsm:kvm"), id="names"),
        pytest.param(Config(hook_folders="hooks"), id="relative"),
    ],
)
def test_wrong_option_is_refused(config: Config) -> None:
    with pytest.raises(BadOption, match="hook_"):
        settings.make(config)


def test_bundles_come_before_the_folders_that_are_named(tmp_path: Path) -> None:
    config = Config(state_folder=str(tmp_path), hook_folders="/etc/skerry/hooks:/a")
    (tmp_path / "hooks/glue").mkdir(parents=True)
    roots = settings.make(config).roots
    assert roots == (
        tmp_path / "hooks/glue",
        Path("/etc/skerry/hooks"),
        Path("/a"),
    )
