"""Decide whom we believe when several nodes speak of one VM.

Pure, and the same whatever order the claims came in. Of a VM that is tied to one node
(its disks lie there alone): running beats not running, since a guest that runs is a
fact and a definition may be left over; then who was heard lately, the higher
generation, the earlier definition.

A VM of a shared pool is told by several nodes in good order: its definition by the
pool's manager, its run by the node where it runs. The highest generation and the run
that is on are put together; what is wanted of the VM is the word of the run's node,
too. Only two that run are rivals.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from aggregator.federation import tolerant
from aggregator.federation.view import VmView
from node.model.vm import VmState

_NOT_RUNNING: Final = frozenset({VmState.DOWN, VmState.UNKNOWN})


def believed(claims: Sequence[VmView]) -> VmView:
    """Return what the View shows; there is at least one claim."""
    if not is_of_pool(claims):
        return min(claims, key=_rank)
    runs = [each for each in claims if each.run_document]
    run = max(runs, key=_run_rank) if runs else None
    defined = min(
        (each for each in claims if each.vm_document),
        key=lambda each: (-each.generation, each is not run, *_definition_rank(each)),
    )
    if run is None:
        # Whoever ran it would say so, even when silent: its word is kept.
        return replace(
            defined,
            state=VmState.DOWN,
            last_state=VmState.DOWN,
            since=defined.created_at,
            reason=None,
        )
    return replace(
        defined,
        node_id=run.node_id,
        state=run.state,
        wanted=run.wanted if run.vm_document else defined.wanted,
        last_state=run.last_state,
        since=run.since,
        reason=run.reason,
        addresses=run.addresses,
        run_document=run.run_document,
    )


def rivals(claims: Sequence[VmView]) -> tuple[VmView, ...]:
    """Return the claims that cannot be true at once, if there are two or more."""
    if is_of_pool(claims):
        return tuple(each for each in claims if is_running(each))
    return tuple(claims)


def is_of_pool(claims: Sequence[VmView]) -> bool:
    """Say whether a VM's definition lies on a pool that several nodes reach."""
    return any(not each.is_tied for each in claims)


def is_running(claim: VmView) -> bool:
    """Say whether QEMU runs there, by what the node said last."""
    return claim.last_state not in _NOT_RUNNING


def _rank(claim: VmView) -> tuple[bool, bool, int, str, str]:
    return (
        not is_running(claim),
        _is_silent(claim),
        -claim.generation,
        claim.created_at,
        claim.node_id,
    )


def _definition_rank(claim: VmView) -> tuple[bool, str]:
    return _is_silent(claim), claim.node_id


def _run_rank(claim: VmView) -> tuple[bool, bool, bool, str, str]:
    # The manager says of every VM that it is down there; who ran it tells how it ended.
    has_run = "end" in tolerant.mapping(claim.run_document)
    is_heard = not _is_silent(claim)
    return is_running(claim), is_heard, has_run, claim.since, claim.node_id


def _is_silent(claim: VmView) -> bool:
    return claim.state is VmState.UNKNOWN
