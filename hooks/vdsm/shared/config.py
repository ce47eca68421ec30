"""Be `vdsm.common.config`, and `vdsm.config`: settings, with VDSM's defaults."""

import configparser
import os

_DEFAULTS = {
    "cpu_affinity": "",  # VDSM has 1: it binds itself, this node does not
    "fake_kvm_architecture": "x86_64",
    "fake_kvm_memory": "0",
    "fake_kvm_support": "false",
    "fake_vmstats_enable": "false",
    "ssl": "true",
}

config = configparser.ConfigParser(interpolation=None)
config.read_dict({"vars": _DEFAULTS})
# A test puts another file here.
config.read(os.environ.get("SKERRY_HOOKS_CONF", "/etc/vdsm/vdsm.conf"))
