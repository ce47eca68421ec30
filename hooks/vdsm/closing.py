"""Be `vdsm.utils`, of which scripts use one name."""

from contextlib import closing

__all__ = ["closing"]
