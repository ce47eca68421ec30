"""Say what a custom property may be called and hold, whoever declares it.

Pure; nodes and aggregators refuse the same. A hook finds each property of its VM in its
environment, under the property's name: a name that a shell, an interpreter or the
loader obeys is refused, and so is what an environment or oVirt's format cannot hold.
Which properties there are, and by what patterns, the fleet declares
(`aggregator.policies.properties`); a node has no say in that.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from node.errors import Invalid
from node.model.properties import CustomProperty
from node.model.vm import VmSpec

NAME_MAX: Final = 64  # characters; oVirt's longest has fifteen
VALUE_MAX: Final = 4096  # characters; a pattern is tried on each of them
COUNT_MAX: Final = 64  # of one VM, card or disk: with the longest values, 1 MiB

# What oVirt has by itself; OVF documents keep them apart from users' own.
PREDEFINED: Final = frozenset(
    {
        *("sap_agent", "sndbuf", "vhost", "viodiskcache", "mdev_type", "hugepages"),
        *("scsi_hostdev", "nvram_template", "extra_cpu_flags"),
    }
)

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What VDSM's contract gives hooks itself.
_OF_HOOKS: Final = frozenset({"vmId", "FROM_SNAPSHOT"})
# What the loader, a shell, an interpreter, sudo or systemd obeys.
_OBEYED: Final = re.compile(
    r"""
    _ | PATH | HOME | IFS | ENV | SHELL | USER | LOGNAME | PWD | OLDPWD | MAIL
    | TMPDIR | TEMP | TMP | TERM | TERMINFO | TERMCAP | TZ | TZDIR | LANG | LANGUAGE
    | EDITOR | VISUAL | PAGER | CDPATH | GLOBIGNORE | SHELLOPTS | PROMPT_COMMAND
    | PS[0-4] | POSIXLY_CORRECT | GETCONF_DIR | NLSPATH | LOCPATH | HOSTALIASES
    | LOCALDOMAIN | RES_OPTIONS | CREDENTIALS_DIRECTORY | INVOCATION_ID
    | NOTIFY_SOCKET | JOURNAL_STREAM | MAINPID | WATCHDOG_(USEC|PID)
    | (https?|ftp|no|all)_proxy | (HTTPS?|FTP|NO|ALL)_PROXY
    | (_hook_ | SKERRY_ | LD_ | LC_ | BASH | PYTHON | PERL | RUBY | GEM_ | NODE_
       | LUA_ | JAVA_ | JDK_ | GCONV_ | GLIBC_ | MALLOC_ | LISTEN_ | SYSTEMD_ | SUDO_
       | DBUS_ | XDG_ | GIT_ | SSH_ | SSL_ | OPENSSL_ | CURL_ | LIBGUESTFS_ | LIBVIRT_
       | VIRSH_ | QEMU_ ).*
    """,
    re.VERBOSE,
)
# control, surrogate, unassigned, line and paragraph separators
_UNFIT: Final = frozenset({"Cc", "Cs", "Cn", "Zl", "Zp"})


class BadProperty(Invalid):
    """A custom property cannot be called so, or not hold that."""

    code = "bad_custom_property"
    remedy = "Correct the property that the message names."


class NoSuchDevice(Invalid):
    code = "no_such_device_of_vm"
    remedy = "Name one of the VM's cards or disks by its id."


def check_name(name: str) -> None:
    """Refuse what is no name of a custom property; BadProperty."""
    if not _NAME.fullmatch(name) or len(name) > NAME_MAX:
        raise _bad(
            name,
            f"a custom property cannot be called {name!r:.80}: its name is at most"
            f" {NAME_MAX} letters, digits and underscores, the first no digit",
        )
    if name in _OF_HOOKS or name.startswith("_hook_"):
        raise _bad(name, f"{name} is what hooks are told by Skerry itself")
    if _OBEYED.fullmatch(name):
        raise _bad(name, f"{name} would change how hooks run, not only what they read")


def check(properties: Iterable[CustomProperty]) -> None:
    """Refuse properties that no VM, card or disk can have; BadProperty."""
    seen: set[str] = set()
    for each in properties:
        check_name(each.name)
        if each.name in seen:
            raise _bad(each.name, f"custom property {each.name} stands there twice")
        seen.add(each.name)
        _check_value(each)
    if len(seen) > COUNT_MAX:
        raise BadProperty(f"at most {COUNT_MAX} custom properties go with one thing")


def check_all(spec: VmSpec) -> None:
    """Check the properties of a VM and of all its devices; BadProperty."""
    check(spec.custom_properties)
    for nic in spec.nics:
        check(nic.custom_properties)
    for disk in spec.disks:
        check(disk.custom_properties)


def of(spec: VmSpec, device_id: str | None) -> tuple[CustomProperty, ...]:
    """Return the properties of a VM, or with an id of its device; NoSuchDevice."""
    if device_id is None:
        return spec.custom_properties
    held = {str(nic.nic_id): nic.custom_properties for nic in spec.nics}
    held |= {str(disk.disk_id): disk.custom_properties for disk in spec.disks}
    if device_id in held:
        return held[device_id]
    raise NoSuchDevice(f"VM {spec.name} has no card or disk {device_id}")


def edited(
    known: Iterable[CustomProperty], changes: Iterable[CustomProperty]
) -> tuple[CustomProperty, ...]:
    """Return properties by name after changes; an empty value removes one."""
    values = {each.name: each.value for each in (*known, *changes)}
    return tuple(
        CustomProperty(name, values[name]) for name in sorted(values) if values[name]
    )


def _check_value(each: CustomProperty) -> None:
    name, value = each.name, each.value
    if len(value) > VALUE_MAX:
        text = f"custom property {name} has more than {VALUE_MAX} characters"
        raise _bad(name, text)
    if any(unicodedata.category(letter) in _UNFIT for letter in value):
        raise _bad(
            name,
            f"custom property {name} has a line break or another control character",
        )
    if ";" in value:
        text = f"custom property {name} has a semicolon, which oVirt's format cannot"
        raise _bad(name, f"{text} hold in a value")


def _bad(name: str, complaint: str) -> BadProperty:
    return BadProperty(complaint, field="custom_properties", name=name[:80])
