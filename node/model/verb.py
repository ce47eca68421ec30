"""Say what a verb is: a row of a table, with who may call it and on what.

A path's `{vm_id}` and the like are UUIDs, `{name}` is text.
"""

from dataclasses import dataclass
from enum import StrEnum


class Caller(StrEnum):
    """Who may call: each face lets in only some."""

    LOCAL = "local"  # the unix socket: root on this machine
    AGGREGATOR = "aggregator"  # mutual TLS, role aggregator
    ANYONE = "anyone"  # the admission listener: no client certificate
    USER = "user"  # somebody with a token of an aggregator


class ActionGroup(StrEnum):
    """What a permission is about; the names are those of oVirt's roles."""

    READ = "read"
    CREATE_VM = "create_vm"
    DELETE_VM = "delete_vm"
    RUN_VM = "run_vm"
    STOP_VM = "stop_vm"
    RESET_VM = "reboot_vm"
    CONNECT_TO_VM = "connect_to_vm"
    MANIPULATE_HOST = "manipulate_host"
    CREATE_STORAGE_DOMAIN = "create_storage_domain"
    EDIT_STORAGE_DOMAIN = "edit_storage_domain_configuration"
    DELETE_STORAGE_DOMAIN = "delete_storage_domain"
    MANIPULATE_STORAGE_DOMAIN = "manipulate_storage_domain"
    CREATE_POOL = "create_storage_pool"
    EDIT_POOL = "edit_storage_pool_configuration"
    MANIPULATE_SNAPSHOTS = "manipulate_vm_snapshots"
    CREATE_DISK = "create_disk"
    ATTACH_DISK = "attach_disk"
    EDIT_DISK = "edit_disk_properties"
    CONFIGURE_DISK_STORAGE = "configure_disk_storage"  # where it lies: copy, move
    SPARSIFY_DISK = "sparsify_disk"
    DELETE_DISK = "delete_disk"
    EXPORT_VM = "import_export_vm"
    CONFIGURE_DISK_PROFILE = "configure_storage_disk_profile"
    ATTACH_DISK_PROFILE = "attach_disk_profile"
    CREATE_TEMPLATE = "create_template"
    EDIT_TEMPLATE = "edit_template_properties"
    DELETE_TEMPLATE = "delete_template"
    CHANGE_CUSTOM_PROPERTIES = "change_vm_custom_properties"
    EDIT_FLEET = "configure_engine"


class Object(StrEnum):
    """What kind of object a permission is looked up on."""

    NODE = "node"
    VM = "vm"
    DISK = "disk"
    TEMPLATE = "template"
    STORAGE_DOMAIN = "storage_domain"
    POOL = "pool"
    CLUSTER = "cluster"
    DATA_CENTER = "data_center"
    FLEET = "fleet"


@dataclass(frozen=True, slots=True)
class Query:
    name: str
    kind: type[int] | type[float] | type[str]
    meaning: str


@dataclass(frozen=True, slots=True)
class Verb:
    name: str
    method: str
    path: str
    meaning: str
    group: ActionGroup
    object: Object
    reply: type | None  # None: see media_type, or an empty reply
    request: type | None = None
    status: int = 200
    callers: frozenset[Caller] = frozenset({Caller.LOCAL, Caller.AGGREGATOR})
    query: tuple[Query, ...] = ()
    media_type: str = "application/json"
    is_slow: bool = False  # its thread asks something that may hang: few at a time
