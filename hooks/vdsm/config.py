"""Be `vdsm.config`."""

from vdsm.shared.config import config

__all__ = ["config"]
