"""The options of a node: /etc/skerry/node.conf, section [node].

`skerry-node options` prints them with their meaning.
"""

import configparser
from dataclasses import dataclass, replace
from pathlib import Path

from node.model import options
from node.model.options import BadOption, option

DEFAULT_PATH = Path("/etc/skerry/node.conf")
KERNEL_PREFIX = "skerry."


@dataclass(frozen=True, slots=True)
class Config:
    node_id: str = option("", "UUID", "empty: the SMBIOS UUID, else the machine id")
    name: str = option("", "text", "empty: the host name")
    address: str = option("", "address", "empty: that of the default route's link")
    state_folder: str = option("/var/lib/skerry", "path", "documents, keys, disks")
    local_storage: str = option(
        "/var/lib/skerry/local", "path", "the local storage domain; empty: none"
    )
    permits_scratch_storage: bool = option(
        False, "yes|no", "local disks may lie in memory: they are lost at a boot"
    )
    risks_data_without_watchdog: bool = option(
        False, "yes|no", "join shared pools without a watchdog: data may be lost"
    )
    data_jobs_max: int = option(
        2, "count", "jobs that move data of one storage domain at once"
    )
    run_folder: str = option("/run/skerry", "path", "sockets; emptied at boot")
    api_port: int = option(7440, "port", "the API, with client certificates")
    admission_port: int = option(7441, "port", "admission, without them")
    transfer_port: int = option(54322, "port", "disks in and out, by tickets")
    libvirt_uri: str = option("qemu:///system", "URI", "which hypervisor to drive")
    qemu_group: str = option("kvm", "group", "who may open disk files beside root")
    hook_folders: str = option(
        "/etc/skerry/hooks:/usr/libexec/vdsm/hooks", "paths", "scripts of hooks, with :"
    )
    hook_user: str = option("36:36", "uid:gid", "who runs them, with sudo's rules")
    hook_timeouts: str = option("", "point=s,…", "other times than a point gives them")
    hook_memory_mib: int = option(512, "MiB", "what a script may use, with its own")
    hook_cgroup: str = option("skerry-hooks", "name", "of the cgroup they run in")
    emulation: str = option("auto", "auto|always", "always: never use KVM")
    kvm_probe_kernel: str = option("", "path", "what KVM is tried with; empty: /boot")
    udev_source: str = option("auto", "auto|udev|kernel", "who announces devices")
    stats_interval_s: float = option(15.0, "s", "more often costs CPU time")
    push_interval_s: float = option(5.0, "s", "a silent node is suspect after 12 s")
    fetch_gap_s: float = option(30.0, "s", "the fleet's documents: at most this often")
    guest_wait_s: float = option(60.0, "s", "then a started VM counts as up")
    aggregator: str = option("", "host:port,fingerprint", "ask it for admission")
    token: str = option("", "text", "what that admission is granted for")
    log_level: str = option("INFO", "DEBUG|INFO|WARNING", "how much is logged")
    threads: int = option(8, "count", "requests served at once")


def load(path: Path = DEFAULT_PATH, kernel_arguments: str = "") -> Config:
    """Return the file's options; those on the kernel's command line come first."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(path)
    except configparser.Error as error:
        raise BadOption(f"{path} cannot be read: {error}", path=str(path)) from error
    settings = dict(parser["node"]) if "node" in parser else {}
    for word in kernel_arguments.split():
        name, is_set, value = word.partition("=")
        option_name = name.removeprefix(KERNEL_PREFIX)
        # What has a second dot is said to the initrd: skerry.boot.medium=…
        if is_set and option_name != name and "." not in option_name:
            settings[option_name] = value
    return options.read(Config, settings)


def with_folders(config: Config, folder: Path) -> Config:
    """Return the configuration moved below one folder."""
    return replace(
        config,
        state_folder=str(folder / "state"),
        local_storage=str(folder / "local") if config.local_storage else "",
        run_folder=str(folder / "run"),
    )
