"""Be `vdsm.constants`."""

from vdsm.shared.constants import P_VDSM_HOOKS, P_VDSM_RUN, SYSCONF_PATH

__all__ = ["P_VDSM_HOOKS", "P_VDSM_RUN", "SYSCONF_PATH"]
