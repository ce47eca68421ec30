"""Let these tests import what hook scripts import."""

import os
import sys

from tests.unit.hooks import scene

sys.path.append(os.fspath(scene.HOOKS))
