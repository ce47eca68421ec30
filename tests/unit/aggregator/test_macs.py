"""Tests of generated MAC addresses."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aggregator import macs
from tests.fakes.services import WEB1, make_view

VIEW = make_view()


@given(st.uuids().map(str))
def test_free_mac_is_an_address_of_the_range_and_stays_the_same(seed: str) -> None:
    mac = macs.free_mac(VIEW, seed)
    assert mac == macs.free_mac(VIEW, seed)
    assert macs.FIRST <= mac <= macs.LAST


def test_free_mac_avoids_what_a_vm_has() -> None:
    first = macs.free_mac(VIEW, "seed")
    vm = VIEW.vms[WEB1]
    document = vm.vm_document.replace(b"56:6f:00:00:00:01", first.encode())
    taken = replace(VIEW, vms=VIEW.vms.set(WEB1, replace(vm, vm_document=document)))
    assert macs.is_taken(taken, first)
    assert macs.free_mac(taken, "seed") != first
