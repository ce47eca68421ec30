"""The verbs of what came with a storage domain and is to be registered.

The pool's manager answers all of them: it has read what lies there.
"""

from node.model.job import Job
from node.model.storage_requests import ActOnStorageDomain
from node.model.unregistered import RegisterVm, Unregistered
from node.model.verb import ActionGroup, Object, Verb

_DOMAIN = "/v1/storage-domains/{storage_domain_id}"

STORAGE_DOMAIN_UNREGISTERED = Verb(
    "storage_domain_unregistered",
    "GET",
    f"{_DOMAIN}/unregistered",
    "List the VMs and templates that came with a storage domain, or were exported.",
    ActionGroup.READ,
    Object.STORAGE_DOMAIN,
    Unregistered,
    is_slow=True,
)
STORAGE_DOMAIN_REGISTER_VM = Verb(
    "storage_domain_register_vm",
    "POST",
    f"{_DOMAIN}/register-vm",
    "Make a VM of a definition that came with a storage domain.",
    ActionGroup.CREATE_VM,
    Object.STORAGE_DOMAIN,
    Job,
    RegisterVm,
    status=202,
    is_slow=True,
)
STORAGE_DOMAIN_WRITE_OVF = Verb(
    "storage_domain_write_ovf",
    "POST",
    f"{_DOMAIN}/write-ovf",
    "Write the VMs of a storage domain into its OVF_STORE now, for oVirt.",
    ActionGroup.EDIT_STORAGE_DOMAIN,
    Object.STORAGE_DOMAIN,
    Job,
    ActOnStorageDomain,
    status=202,
)

VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
