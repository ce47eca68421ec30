"""Attach a screen, reached by VNC on the host's loopback only, and a pointer.

Pure. The port and that of the WebSocket are chosen by libvirt at each start.
"""

from lxml import etree

from node.vm.devices import element, pci

USB_ALIAS = "usb"
_LOOPBACK = "127.0.0.1"
_VIDEO_KIB = 16384  # enough for 2560 × 1600 in 32 bits


def build(usb: pci.Place, video: pci.Place) -> list[etree._Element]:
    """Return USB controller, tablet, screen and video card."""
    screen = element.make(
        "graphics",
        element.make("listen", type="address", address=_LOOPBACK),
        type="vnc",
        port=-1,
        autoport="yes",
        websocket=-1,
    )
    card = element.make(
        "video",
        element.make("model", type="vga", vram=_VIDEO_KIB, heads=1, primary="yes"),
        pci.address(video),
    )
    controller = element.make(
        "controller",
        pci.address(usb),
        type="usb",
        index=0,
        model="qemu-xhci",
        ports=8,
    )
    # A tablet tells where the pointer is: a mouse would drift away from it.
    tablet = element.make("input", type="tablet", bus="usb")
    return [controller, tablet, screen, card]
