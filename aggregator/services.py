"""Hand the faces what they may use: one frozen bundle, made in `app`."""

from collections.abc import Callable
from dataclasses import dataclass

from aggregator.access import Access
from aggregator.config import Config
from aggregator.control.hook_bundles import HookBundles
from aggregator.control.orders import Orders
from aggregator.control.transfers import Transfers
from aggregator.db import Database
from aggregator.federation.events import EventLog
from aggregator.federation.mirror import Mirror
from aggregator.fleet.hook_rules import HookRules
from aggregator.fleet.term import Leadership
from aggregator.hooks.center import CenterHooks
from aggregator.registry import Registry
from node.clock import Clock
from node.http.client import NodeClient
from node.model.ids import NodeId, VmId


@dataclass(frozen=True, slots=True)
class Services:
    config: Config
    clock: Clock
    database: Database
    mirror: Mirror
    events: EventLog
    orders: Orders
    registry: Registry
    leadership: Leadership
    access: Access
    ca_certificate: Callable[[], str]  # PEM of the fleet's CA
    screenshot: Callable[[VmId], bytes]  # PNG, asked of the VM's node
    serial: Callable[[VmId, int], bytes]  # the last bytes of its serial line
    node: Callable[[NodeId], NodeClient]  # a member's own API
    transfers: Transfers
    hook_rules: HookRules
    hook_bundles: HookBundles
    center_hooks: CenterHooks
