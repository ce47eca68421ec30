"""The verbs of what came with a storage domain of the aggregator's own API."""

from aggregator.api.model import OrderLine
from aggregator.api.register_model import RegisterNewcomer
from aggregator.api.storage_model import ActOnStorage
from aggregator.api.table import USERS, act
from node.model.unregistered import Unregistered
from node.model.verbs import ActionGroup, Object, Verb

_DOMAIN = "/v1/storage-domains/{storage_domain_id}"

STORAGE_DOMAIN_UNREGISTERED = Verb(
    "storage_domain_unregistered",
    "GET",
    f"{_DOMAIN}/unregistered",
    "List the VMs and templates that came with a storage domain, or were exported.",
    ActionGroup.READ,
    Object.STORAGE_DOMAIN,
    Unregistered,
    callers=USERS,
    is_slow=True,
)
STORAGE_DOMAIN_REGISTER_VM = act(
    "storage_domain_register_vm",
    f"{_DOMAIN}/register-vm",
    "Make a VM of a definition that came with a storage domain.",
    ActionGroup.CREATE_VM,
    Object.STORAGE_DOMAIN,
    RegisterNewcomer,
    OrderLine,
    202,
    is_slow=True,  # a node reads what lies there first
)
STORAGE_DOMAIN_WRITE_OVF = act(
    "storage_domain_write_ovf",
    f"{_DOMAIN}/write-ovf",
    "Write the VMs of a storage domain into its OVF_STORE now, for oVirt.",
    ActionGroup.EDIT_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    ActOnStorage,
    OrderLine,
    202,
)

VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
