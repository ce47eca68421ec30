"""Keep Python's collector of cycles from stopping the aggregator.

The View of 50,000 VMs is some hundred thousand objects without a cycle. Each
full collection looks at all of them, a quarter of a second in which nothing is
answered. So it happens at times that we choose, and what is left then is passed
over by all collections in between.
"""

import gc
from typing import Final

# Young objects are looked at in batches of a page's size, some ms each; all are
# looked at by themselves only after five million more: something leaks then.
_THRESHOLDS: Final = (10_000, 10, 50)


def calm() -> None:
    """Collect rarely from now on; before the View is loaded."""
    gc.set_threshold(*_THRESHOLDS)


def tidy() -> None:
    """Free what is unreachable, and pass over the rest until the next time."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
