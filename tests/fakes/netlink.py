"""Links, addresses and routes, as the test sets them."""

from dataclasses import dataclass

from node.system.netlink import Address, Link, Netlink, Route


def make_link(name: str, kind: str = "", **others: object) -> Link:
    """Return a link with an address of its own; `others` are fields of Link."""
    index = 1 + sum(name.encode()) % 1000
    fields: dict[str, object] = {
        "index": index,
        "name": name,
        "kind": kind,
        "mac": f"52:54:00:00:{index // 256:02x}:{index % 256:02x}",
        "mtu": 1500,
        "is_up": True,
    }
    return Link(**{**fields, **others})  # type: ignore[arg-type]  # fields by name


LOOPBACK = make_link(
    "lo", mac="00:00:00:00:00:00", mtu=65536, is_up=False, is_loopback=True
)


@dataclass(slots=True)
class FakeNetlink:
    all_links: tuple[Link, ...] = (
        LOOPBACK,
        make_link("eth0", bridge="ovirtmgmt", driver="virtio_net"),
        make_link("ovirtmgmt", "bridge", driver="bridge"),
    )
    all_addresses: tuple[Address, ...] = (
        Address("127.0.0.1", "lo", 4, False),
        Address("10.77.0.1", "ovirtmgmt", 4, True),
    )
    routes: tuple[Route, ...] = (Route("ovirtmgmt", 4, "", 0),)

    def links(self) -> tuple[Link, ...]:
        return self.all_links

    def addresses(self) -> tuple[Address, ...]:
        return self.all_addresses

    def default_routes(self) -> tuple[Route, ...]:
        return self.routes


_typed: Netlink = FakeNetlink()
