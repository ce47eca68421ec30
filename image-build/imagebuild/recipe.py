"""Read the image's recipe: kickstart files, with sections and commands of our own.

    debian --suite=trixie --suite=trixie-updates --component=main
                                   which releases the packages come from
    device NAME…                   drivers that the initrd has, to find its root
    %packages                      what is installed; `-name` must never come in
    %unpack                        packages of which only files are taken: `name`
                                   for the boot menus, `name FROM TO` for the root
    %minimize                      what is dropped, see `pruning` and `modules`
    %post                          a script that runs in the root; --nochroot: beside it

Pure but for reading the files. What a node has no use for is refused, not ignored.
Source: pykickstart's documentation, "Programmer's guide".
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pykickstart.base import KickstartCommand
from pykickstart.constants import KS_SCRIPT_POST
from pykickstart.errors import KickstartError
from pykickstart.handlers.rhel9 import RHEL9Handler
from pykickstart.options import KSOptionParser
from pykickstart.parser import KickstartParser
from pykickstart.sections import Section
from pykickstart.version import RHEL9, returnClassForVersion

from imagebuild.modules import ModuleRule
from imagebuild.pruning import Rule
from node.errors import Invalid
from node.units import MiB

# What of kickstart an image has a use for; the others are refused by their line.
KNOWN: Final = frozenset(
    {"bootloader", "debian", "device", "keyboard", "lang", "part", "services"}
    | {"timezone", "rootpw"}
)


class RecipeMalformed(Invalid):
    code = "recipe_malformed"
    remedy = "Correct the line of the recipe that the message names."


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A package that is not installed: of the root if it has a target."""

    package: str
    source: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    interpreter: str
    is_in_root: bool
    line: int


@dataclass(frozen=True, slots=True)
class Recipe:
    suites: tuple[str, ...]
    components: tuple[str, ...]
    packages: tuple[str, ...]
    excluded: frozenset[str]
    unpacked: tuple[Unpacked, ...]
    enabled: tuple[str, ...]  # units of systemd; all others stay off
    masked: tuple[str, ...]
    language: str
    keyboard: str
    time_zone: str
    kernel_arguments: str
    menu_timeout_s: int
    drivers: tuple[str, ...]
    scripts: tuple[Script, ...]
    rules: tuple[Rule, ...]
    module_rules: tuple[ModuleRule, ...]
    root_size_max: int  # bytes, as it is compressed


def read(path: Path) -> Recipe:
    """Return what a recipe and all that it includes say; RecipeMalformed."""
    handler = _handler()
    # An own command is known by its name; what it may not hold is an error below.
    parser = KickstartParser(handler, errorsAreFatal=True, missingIncludeIsFatal=True)
    sections = {each: each(handler) for each in (_Unpack, _Minimize)}
    for section in sections.values():
        parser.registerSection(section)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parser.readKickstartFromString(_flat(path))
    except (KickstartError, Warning) as error:
        raise RecipeMalformed(f"{path}: {error}", path=str(path)) from error
    unpack, minimize = sections[_Unpack].lines, sections[_Minimize].lines
    rules, module_rules = _rules(minimize)
    sizes = [p.size for p in handler.partition.partitions if p.mountpoint == "/"]
    if len(sizes) != 1:
        raise RecipeMalformed(f"{path}: `part / --size` must be there once")
    return Recipe(
        suites=tuple(handler.debian.suites),
        components=tuple(handler.debian.components),
        packages=tuple(dict.fromkeys(handler.packages.packageList)),
        excluded=frozenset(handler.packages.excludedList),
        unpacked=tuple(Unpacked(*line.split()) for line in unpack),
        enabled=tuple(handler.services.enabled),
        masked=tuple(handler.services.disabled),
        language=handler.lang.lang,
        keyboard=handler.keyboard.vc_keymap or handler.keyboard.keyboard,
        time_zone=handler.timezone.timezone,
        kernel_arguments=handler.bootloader.appendLine,
        menu_timeout_s=handler.bootloader.timeout or 0,
        drivers=tuple(handler.device.drivers),
        scripts=tuple(
            Script(each.script, each.interp, bool(each.inChroot), each.lineno)
            for each in handler.scripts
            if each.type == KS_SCRIPT_POST
        ),
        rules=tuple(rules),
        module_rules=tuple(module_rules),
        root_size_max=sizes[0] * MiB,
    )


_INCLUDE: Final = re.compile(r"%include\s+(\S+)\s*")


def _flat(path: Path) -> str:
    """Return a recipe's text with what it includes, relative to itself."""
    try:
        lines = path.read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeMalformed(f"{path}: {error}", path=str(path)) from error
    return "".join(
        _flat(path.parent / found[1]) if (found := _INCLUDE.fullmatch(line)) else line
        for line in lines
    )


class _Debian(KickstartCommand):  # type: ignore[misc]  # it has no types
    """`debian --suite=… --component=…`."""

    removedKeywords = KickstartCommand.removedKeywords
    removedAttrs = KickstartCommand.removedAttrs

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.suites: list[str] = []
        self.components: list[str] = []
        self.op = KSOptionParser(
            prog="debian", description="which releases of Debian", version=RHEL9
        )
        for name, target in (("--suite", "suites"), ("--component", "components")):
            self.op.add_argument(
                name,
                dest=target,
                action="append",
                required=True,
                version=RHEL9,
                help="may be given several times",
            )

    def parse(self, args: list[str]) -> "_Debian":
        self.set_to_self(self.op.parse_args(args=args, lineno=self.lineno))
        return self

    def __str__(self) -> str:
        words = [*(f"--suite={s}" for s in self.suites)]
        words += [f"--component={c}" for c in self.components]
        return f"debian {' '.join(words)}\n" if self.suites else ""


class _Device(KickstartCommand):  # type: ignore[misc]  # it has no types
    """`device NAME…`, as oVirt Node's recipes have it."""

    removedKeywords = KickstartCommand.removedKeywords
    removedAttrs = KickstartCommand.removedAttrs

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.drivers: list[str] = []

    def parse(self, args: list[str]) -> "_Device":
        self.drivers += args
        return self

    def __str__(self) -> str:
        return f"device {' '.join(self.drivers)}\n" if self.drivers else ""


class _Lines(Section):  # type: ignore[misc]  # pykickstart has no types
    """A section of lines; what follows a `#` is no part of them."""

    def __init__(self, handler: Any, **kwargs: Any) -> None:
        super().__init__(handler, **kwargs)
        self.lines: list[str] = []

    def handleLine(self, line: str) -> None:
        text = line.partition("#")[0].strip()
        if text:
            self.lines.append(text)


class _Unpack(_Lines):
    sectionOpen = "%unpack"


class _Minimize(_Lines):
    sectionOpen = "%minimize"


def _handler() -> Any:
    """Return what knows the commands of an image, and no others."""
    commands = {k: v for k, v in RHEL9Handler.commandMap.items() if k in KNOWN}
    mapping = {**commands, "debian": _Debian, "device": _Device}
    base: Any = returnClassForVersion(RHEL9)
    return base(mapping=mapping)


def _rules(lines: list[str]) -> tuple[list[Rule], list[ModuleRule]]:
    """Return what %minimize says; each rule has the reason above it."""
    rules: list[Rule] = []
    module_rules: list[ModuleRule] = []
    reason = ""
    for line in lines:
        verb, _, rest = line.partition(" ")
        if verb == "because":
            reason = rest
        elif not reason:
            raise RecipeMalformed(f"%minimize: no `because` above `{line}`")
        elif verb in ("drop", "keep", "drop-package"):
            rules += [Rule(verb, each, reason) for each in rest.split()]
        elif verb in ("module", "no-module"):
            is_kept = verb == "module"
            module_rules += [ModuleRule(each, is_kept, reason) for each in rest.split()]
        else:
            raise RecipeMalformed(f"%minimize: `{verb}` is no verb: `{line}`")
    return rules, module_rules
