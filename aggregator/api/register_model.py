"""What travels on /v1 of an aggregator about what came with a storage domain."""

from dataclasses import dataclass

from node.model.unregistered import RegisterVm


@dataclass(frozen=True, slots=True)
class RegisterNewcomer:
    vm: RegisterVm
    # Instead of MAC addresses that a VM of the fleet has; all, of one with another id.
    renews_macs: bool = True
