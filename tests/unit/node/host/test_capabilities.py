"""Who a machine is and what it can do, from the texts it shows."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.host import capabilities
from node.host.capabilities import NodeIdMissing
from node.model.host import NumaNode
from node.system.hypervisor import HypervisorFacts
from node.system.netlink import Address, Route
from node.units import GiB
from tests.fakes.netlink import make_link
from tests.fakes.procfs import CPUINFO

_GOOD = "4c4c4544-0043-3510-8052-b4c04f4a3632"
_MACHINE = "3d1219c7c4c5404aaa1f6d2a48adfda4"
_MACHINE_ID = "3d1219c7-c4c5-404a-aa1f-6d2a48adfda4"
_CONFIGURED = "11111111-2222-4333-8444-000000000001"
_HYPERVISOR = HypervisorFacts("9.0.0", "7.2.22", ("pc-q35-7.2",), ("Nehalem",), "EPYC")


@pytest.mark.parametrize(
    ("configured", "smbios", "expected"),
    [
        (_CONFIGURED, _GOOD, _CONFIGURED),
        ("", _GOOD, _GOOD),
        ("", _GOOD.upper(), _GOOD),
        ("", "", _MACHINE_ID),
        ("", "Not Settable", _MACHINE_ID),
        ("", "00000000-0000-0000-0000-000000000000", _MACHINE_ID),
        ("", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", _MACHINE_ID),
        ("", "03000200-0400-0500-0006-000700080009", _MACHINE_ID),
    ],
    ids=[
        "configured",
        "smbios",
        "upper-case",
        "no-smbios",
        "no-uuid",
        "zeros",
        "ones",
        "template",
    ],
)
def test_node_id_is_the_first_good_one(
    configured: str, smbios: str, expected: str
) -> None:
    assert capabilities.node_id(configured, smbios, _MACHINE) == expected


def test_node_id_is_missing_when_there_is_none() -> None:
    with pytest.raises(NodeIdMissing):
        capabilities.node_id("", "", "uninitialized")


@given(some.uuids(version=4))
def test_node_id_is_any_random_uuid_in_lower_case(value: uuid.UUID) -> None:
    assert capabilities.node_id("", str(value).upper(), "") == str(value)


_ADDRESSES = (
    Address("127.0.0.1", "lo", 4, False),
    Address("10.0.0.5", "eth1", 4, True),
    Address("10.0.1.5", "eth0", 4, True),
    Address("fe80::1", "eth0", 6, False),
    Address("fd00::5", "eth0", 6, True),
)


@pytest.mark.parametrize(
    ("configured", "routes", "addresses", "expected"),
    [
        ("192.0.2.1", (Route("eth0", 4, "", 0),), _ADDRESSES, "192.0.2.1"),
        ("", (Route("eth0", 4, "10.0.1.6", 0),), _ADDRESSES, "10.0.1.6"),
        ("", (Route("eth0", 4, "", 0),), _ADDRESSES, "10.0.1.5"),
        (
            "",
            (Route("eth0", 6, "", 0), Route("eth1", 4, "", 9), Route("eth0", 4, "", 5)),
            _ADDRESSES,
            "10.0.1.5",
        ),
        ("", (Route("eth0", 6, "", 0),), _ADDRESSES, "fd00::5"),
        ("", (Route("eth9", 4, "", 0),), _ADDRESSES, "10.0.0.5"),
        ("", (), _ADDRESSES, "10.0.0.5"),
        ("", (), _ADDRESSES[:1], ""),
    ],
    ids=[
        "configured",
        "source-of-the-route",
        "link-of-the-route",
        "lowest-metric",
        "version-6",
        "route-without-address",
        "no-route",
        "nothing",
    ],
)
def test_address_is_where_others_reach_us(
    configured: str,
    routes: tuple[Route, ...],
    addresses: tuple[Address, ...],
    expected: str,
) -> None:
    assert capabilities.address(configured, routes, addresses) == expected


def test_networks_are_bridges_that_are_not_of_others() -> None:
    links = [
        make_link("vmnet", "bridge"),
        make_link("virbr0", "bridge"),
        make_link("eth0"),
        make_link("ovirtmgmt", "bridge"),
    ]
    assert capabilities.networks(links) == ("ovirtmgmt", "vmnet")


def _cpuinfo(sockets: int, cores: int, threads: int) -> str:
    return "\n".join(
        f"processor\t: {socket}{core}{thread}\nphysical id\t: {socket}\n"
        f"siblings\t: {cores * threads}\ncpu cores\t: {cores}\n"
        for socket in range(sockets)
        for core in range(cores)
        for thread in range(threads)
    )


@given(some.integers(1, 4), some.integers(1, 4), some.integers(1, 2))
def test_cpu_facts_count_sockets_cores_and_threads(
    sockets: int, cores: int, threads: int
) -> None:
    text = _cpuinfo(sockets, cores, threads)
    facts = capabilities.cpu_facts(text, (), "", _HYPERVISOR)
    assert (facts.sockets, facts.cores, facts.threads) == (sockets, cores, threads)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 1),
        ("processor\t: 0\n\nprocessor\t: 1\n\nprocessor\t: 2\n", 3),
        (_cpuinfo(1, 4, 2).rpartition("\n\n")[0], 7),
    ],
    ids=["nothing", "not-x86", "one-offline"],
)
def test_cpu_facts_only_count_when_the_topology_is_odd(text: str, count: int) -> None:
    assert capabilities.cpu_facts(text, (), "", _HYPERVISOR).count == count


def test_cpu_facts_name_the_processor_and_what_libvirt_says() -> None:
    facts = capabilities.cpu_facts(CPUINFO, (), "3600000", _HYPERVISOR)
    assert (facts.model, facts.vendor) == ("A Fine Processor", "GenuineIntel")
    assert (facts.flags, facts.numa_nodes, facts.mhz) == (("sse2", "vmx"), 1, 3600)
    assert (facts.libvirt_model, facts.usable_models) == ("EPYC", ("Nehalem",))


def test_cpu_facts_take_the_frequency_of_now_when_no_other_is_known() -> None:
    assert capabilities.cpu_facts(CPUINFO, (), "", _HYPERVISOR).mhz == 2000


def test_cpu_facts_count_the_numa_nodes() -> None:
    numa = (NumaNode(0, (0,), GiB), NumaNode(1, (1,), GiB))
    facts = capabilities.cpu_facts(CPUINFO, numa, "", _HYPERVISOR)
    assert (facts.numa_nodes, facts.numa) == (2, numa)


@pytest.mark.parametrize(
    ("cpulist", "cpus"),
    [
        pytest.param("0", (0,), id="one"),
        pytest.param("0-3", (0, 1, 2, 3), id="range"),
        pytest.param("0-1,8-9,12", (0, 1, 8, 9, 12), id="hyper-threads"),
        pytest.param("", (), id="memory-only"),
    ],
)
def test_numa_node_reads_the_kernels_files(cpulist: str, cpus: tuple[int, ...]) -> None:
    meminfo = "Node 10 MemTotal:       65842896 kB\nNode 10 MemFree:  1 kB"
    assert capabilities.numa_node("node10", cpulist, meminfo) == NumaNode(
        10, cpus, 65842896 * 1024
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('ID=debian\nPRETTY_NAME="Debian GNU/Linux 12"\n', "Debian GNU/Linux 12"),
        ("PRETTY_NAME=Debian\n", "Debian"),
        ("", "Linux"),
    ],
    ids=["quoted", "bare", "missing"],
)
def test_os_name_is_the_pretty_one(text: str, name: str) -> None:
    assert capabilities.os_name(text) == name
