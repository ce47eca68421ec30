"""What VMs ask of hooks: that scripts of administrators run at the right moments."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from node.errors import Conflict
from node.model.hooks import HookPoint
from node.model.properties import CustomProperty
from node.model.vm import Vm


class HookEditRefused(Conflict):
    """libvirt does not take what a script has made of the domain."""

    code = "hook_edit_refused"
    remedy = (
        "Mend the script, or take the property away that it acts on; "
        "`skerry-node hooks test` shows what it changes."
    )


@dataclass(frozen=True, slots=True)
class Edited:
    """XML, or the JSON of a disk, as scripts have left it."""

    text: str
    # Each script that changed something, with the text as it was after it.
    edits: tuple[tuple[str, str], ...] = ()


# Returns XML, when a script needs it: that of a domain is asked of libvirt.
Describe = Callable[[], str]


Properties = tuple[CustomProperty, ...]


class Hooks(Protocol):
    """Who runs hooks of VMs; `node.hooks.vms` does. Any thread may call.

    `more` are custom properties beside the VM's own: of the device it is about.
    """

    def edit(
        self, point: HookPoint, vm: Vm, text: str, more: Properties = ()
    ) -> Edited:
        """Let scripts change XML, or JSON; HookFailed: it is not to be done."""

    def ask(
        self, point: HookPoint, vm: Vm, describe: Describe, more: Properties = ()
    ) -> None:
        """Let scripts forbid what is about to be done; HookFailed."""

    def tell(
        self, point: HookPoint, vm: Vm, describe: Describe, more: Properties = ()
    ) -> None:
        """Let scripts know what has been done, some time after this returns.

        It is written down first: an agent that stops tells when it starts again.
        """
