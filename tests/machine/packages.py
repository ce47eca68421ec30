"""List the Debian packages that we need, why, and for what use.

Pure. The names are those of Debian 12 (bookworm) and Debian 13 (trixie); how
they were checked: docs/decisions/0001-packages-on-debian-12-and-13.md.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Use = Literal["build", "boot", "lab", "image", "test", "database", "npm"]
Release = Literal["bookworm", "trixie"]

# VERSION_CODENAME in /etc/os-release of each release that we know.
RELEASES: Final[tuple[Release, ...]] = ("bookworm", "trixie")


@dataclass(frozen=True, slots=True)
class Package:
    use: Use
    name: str
    why: str
    trixie: str | None = None  # its name there, if it is another one
    on_bookworm: bool = True  # False: part of another package there

    def name_on(self, release: Release) -> str | None:
        """Return the name on a release, or None if it has no such package."""
        if release == "trixie":
            return self.trixie or self.name
        return self.name if self.on_bookworm else None


PACKAGES: Final[tuple[Package, ...]] = (
    # What .venv is made with.
    Package("build", "python3-venv", "the virtual environment"),
    Package("build", "python3-dev", "builds the Python bindings"),
    Package("build", "gcc", "builds the Python bindings"),
    Package("build", "pkg-config", "finds the libraries to build against"),
    Package("build", "libvirt-dev", "builds libvirt-python"),
    Package("build", "libdbus-1-dev", "builds dbus-python"),
    Package("build", "libglib2.0-dev", "builds dbus-python and PyGObject"),
    # PyGObject 3.50 is the last that builds against 1.0, which both have.
    Package("build", "libgirepository1.0-dev", "builds PyGObject"),
    Package("build", "libcairo2-dev", "builds pycairo, which PyGObject asks for"),
    Package("build", "libcurl4-openssl-dev", "builds pycurl for oVirt's client"),
    Package("build", "libssl-dev", "builds pycurl for oVirt's client"),
    Package("build", "libxml2-dev", "builds oVirt's client"),
    Package("build", "python3-sanlock", "sanlock's binding, on no registry"),
    # What both the lab's guest and the image are made with.
    Package("boot", "kmod", "finds kernel modules, and what they need"),
    Package("boot", "mtools", "fills disks without a mount"),
    # What a host of the lab runs.
    Package("lab", "libvirt-daemon-system", "drives the guests"),
    Package("lab", "libvirt-daemon", "drives the guests"),
    Package("lab", "libvirt-daemon-driver-qemu", "drives QEMU"),
    Package("lab", "libvirt-clients", "virsh, to look into a host"),
    Package("lab", "qemu-system-x86", "runs the guests"),
    Package("lab", "qemu-utils", "makes and checks disk images"),
    Package("lab", "ovmf", "firmware for UEFI guests"),
    Package("lab", "sanlock", "leases on shared storage"),
    Package(
        "lab",
        "libvirt-sanlock",
        "lets libvirt hold the leases of VMs",
        trixie="libvirt-daemon-plugin-sanlock",
    ),
    Package("lab", "sudo", "lets hooks do as root what their rules say"),
    Package("lab", "ethtool", "what a sample of hooks sets cards with"),
    Package("lab", "libfaketime", "makes sanlock's minutes seconds"),
    Package("lab", "libfuse3-dev", "builds each host's mirror of the shared folder"),
    Package("lab", "avahi-daemon", "nodes and aggregators find each other"),
    Package("lab", "dbus", "the bus of each host"),
    Package("lab", "udev", "device events of each host"),
    Package("lab", "nginx", "TLS in front of node and aggregator"),
    Package("lab", "dnsmasq-base", "addresses for the guests"),
    Package("lab", "iproute2", "network namespaces, bridges, links"),
    Package("lab", "iputils-ping", "tells whether a guest answers"),
    Package("lab", "procps", "lists processes"),
    Package("lab", "curl", "talks to the interfaces by hand"),
    # What the lab's guest is built with.
    Package("lab", "busybox-static", "all programs of the guest"),
    Package("lab", "syslinux", "boots the guest's disk"),
    Package("lab", "syslinux-common", "boots the guest's disk"),
    Package("lab", "dosfstools", "formats the guest's disk"),
    # What the throw-away VM with Debian's own kernel runs.
    Package("lab", "virtiofsd", "shares the root with the VM", on_bookworm=False),
    Package("lab", "nfs-kernel-server", "serves NFS in the VM"),
    Package("lab", "nfs-common", "mounts NFS in the VM"),
    Package("lab", "rpcbind", "NFS 3 asks it for ports"),
    Package("lab", "nftables", "lets the VM's NFS server fall silent"),
    Package("lab", "dmsetup", "lets the power of the VM's disk fail"),
    # What the node image is built with.
    Package("image", "mmdebstrap", "installs the image's packages into a folder"),
    Package("image", "debian-archive-keyring", "says which packages are Debian's"),
    Package("image", "dpkg-dev", "lists the image's packages for apt"),
    Package("image", "cpio", "packs the initrd"),
    Package("image", "squashfs-tools", "compresses the root"),
    Package("image", "xz-utils", "unpacks kernel modules"),
    Package("image", "grub-common", "makes the boot menu"),
    Package("image", "xorriso", "makes the one file of it all"),
    # What only tests use.
    Package("test", "bindfs", "stands for a storage that hangs"),
    Package("test", "chromium", "looks at the dashboard as a person does"),
    Package("test", "fonts-dejavu-core", "letters for chromium"),
    Package("database", "postgresql", "the aggregator's other database"),
    # Only where no npm is in the PATH: __main__.py asks for it then.
    Package("npm", "npm", "fetches the dashboard's browser libraries"),
)


def choose(uses: Collection[Use], release: Release) -> dict[str, str]:
    """Return name → why of what these uses need on a release, in table order."""
    named = ((package.name_on(release), package) for package in PACKAGES)
    return {
        name: package.why
        for name, package in named
        if name is not None and package.use in uses
    }


def missing(needed: Mapping[str, str], installed: Collection[str]) -> dict[str, str]:
    """Return what of name → why is not installed, in the same order."""
    return {name: why for name, why in needed.items() if name not in installed}
