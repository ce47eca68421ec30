"""Let libvirt write a guest's memory, which takes as long as that is large.

The guest stands still meanwhile, and is held by who calls, who has a place first: only
so many are written at once, and no guest stands still to wait for that. libvirt may be
at it since before the agent stopped, so it is asked until it answers; when the job is
cancelled, as by a forced stop, libvirt gives up what it writes.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Final

from node.errors import Error
from node.system.hypervisor import DomainStuck, HypervisorDown, HypervisorRefused
from node.vm.holding import Holder, Piece

log = logging.getLogger(__name__)

# After a restart of the agent libvirt may still write what the agent asked for before:
# a tebibyte at 300 MB/s.
_BUSY_TRIES: Final = 1800
_BUSY_LOOK_S: Final = 2.0
# A forced stop waits for this: people do not notice it.
_CANCEL_LOOK_S: Final = 0.5
_PLACE_LOOK_S: Final = 1.0


@contextlib.contextmanager
def place(holder: Holder, piece: Piece) -> Iterator[None]:
    """Wait until libvirt can write one memory more, while the guest runs on."""
    while not holder.writers.acquire(timeout=_PLACE_LOOK_S):
        piece.progress.step(20, "waits: other memories are being written")
        piece.progress.check()
    try:
        yield
    finally:
        holder.writers.release()


def write(holder: Holder, piece: Piece, ask: Callable[[], object]) -> None:
    """Ask libvirt to write a memory, and wait; Cancelled, HypervisorRefused.

    `ask` may be called again. DomainMissing: the guest has ended.
    """
    with _cancellable(holder, piece):
        for attempt in range(1, _BUSY_TRIES + 1):
            try:
                ask()
            except HypervisorRefused:
                piece.progress.check()  # it gives up when the job is cancelled
                raise
            except (DomainStuck, HypervisorDown):
                # libvirt may be at it still, also when we hear no more of it.
                if attempt == _BUSY_TRIES:
                    raise
                holder.wait(piece, _BUSY_LOOK_S)
            else:
                return


@contextlib.contextmanager
def _cancellable(holder: Holder, piece: Piece) -> Iterator[None]:
    """Let libvirt give up what it writes as soon as the job is cancelled."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_CANCEL_LOOK_S):
            if piece.progress.job.is_cancel_asked:
                _abort(holder, piece)

    watcher = threading.Thread(target=watch, name="vm-memory-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()


def _abort(holder: Holder, piece: Piece) -> None:
    try:
        holder.hypervisor.abort_save(piece.vm_id)
    except Error as error:
        log.debug("VM %s: its memory is still written: %s", piece.vm_id, error)
