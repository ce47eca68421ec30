"""The XML of a suspended domain, fitted to another host."""

from lxml import etree

from node.vm import restored_xml

SAVED = """<domain type="kvm"><name>web</name>
 <metadata><old/></metadata>
 <os><type machine="pc-q35-7.2">hvm</type><nvram>/old/nvram.fd</nvram></os>
 <cpu mode="custom"><model>Skylake</model></cpu>
 <devices>
  <lease><target path="/old/xleases" offset="1"/></lease>
  <disk><driver type="raw"/><source file="/old/leaf" index="2"/>
    <backingStore type="file"><source file="/old/base"/></backingStore>
    <target dev="vda"/><alias name="ua-d1"/>
    <address slot="0x03"/></disk>
  <interface><mac address="56:6F:00:00:00:01"/><source bridge="old"/></interface>
  <serial type="pty"><source path="/dev/pts/3"/><log file="/old/log"/>
    <target port="0"/></serial>
  <graphics type="vnc" port="5907"/>
 </devices></domain>"""
BUILT = """<domain type="kvm"><name>web-aaaa</name>
 <metadata><new/></metadata>
 <os><type machine="pc-q35-7.2">hvm</type><nvram>/new/nvram.fd</nvram></os>
 <cpu mode="host-model"/>
 <devices>
  <lease><target path="/new/xleases" offset="1"/></lease>
  <disk><driver type="qcow2"/><source file="/new/leaf"/><backingStore/>
    <target dev="vdb"/><serial>d</serial><alias name="ua-d1"/>
    <address slot="0x09"/></disk>
  <disk><source file="/new/other"/><serial>d</serial><alias name="ua-d2"/></disk>
  <interface><mac address="56:6f:00:00:00:01"/><source bridge="new"/></interface>
  <serial type="pty"><log file="/new/log"/><target port="0"/></serial>
  <graphics type="vnc" port="-1"/>
 </devices></domain>"""


def test_fit_takes_what_the_machine_reaches_from_this_host() -> None:
    fitted = restored_xml.fit(SAVED, BUILT)
    assert "/old/xleases" not in fitted
    root = etree.fromstring(fitted)
    assert root.find("metadata/new") is not None
    assert root.findtext("os/nvram") == "/new/nvram.fd"
    devices = root.find("devices")
    assert devices is not None
    assert [e.get("file") for e in devices.iterfind("disk/source")] == ["/new/leaf"]
    assert "/old/base" not in fitted
    assert [e.get("type") for e in devices.iterfind("disk/driver")] == ["qcow2"]
    assert [e.get("bridge") for e in devices.iterfind("interface/source")] == ["new"]
    assert [e.get("file") for e in devices.iterfind("serial/log")] == ["/new/log"]
    assert [e.get("port") for e in devices.iterfind("graphics")] == ["-1"]


def test_fit_keeps_the_machine_that_the_guest_left() -> None:
    root = etree.fromstring(restored_xml.fit(SAVED, BUILT))
    assert root.findtext("name") == "web"
    assert root.findtext("cpu/model") == "Skylake"
    assert [e.get("dev") for e in root.iterfind("devices/disk/target")] == ["vda"]
    assert [e.get("slot") for e in root.iterfind("devices/disk/address")] == ["0x03"]
