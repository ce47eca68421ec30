"""Be `vdsm.common.constants`, and `vdsm.constants`: where things are.

As in VDSM, folders of its own end with a slash.
"""

import os

P_VDSM_RUN = os.path.join(os.environ.get("SKERRY_HOOKS_RUN", "/run/vdsm"), "")
P_VDSM_HOOKS = "/usr/libexec/vdsm/hooks/"
SYSCONF_PATH = "/etc"
