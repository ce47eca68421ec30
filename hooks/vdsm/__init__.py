"""Answer to the names that scripts written for VDSM import.

Each file has what VDSM's own hooks use of VDSM's file of that name, and no
more; docs/hooks-vdsm-names.md lists it. Two names of VDSM's say nothing, so
ours do not have them: they are made here.
"""

import sys

from vdsm import closing as utils
from vdsm import shared as common

sys.modules["vdsm.common"] = common
sys.modules["vdsm.utils"] = utils
