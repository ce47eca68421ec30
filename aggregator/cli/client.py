"""Call the aggregator's own API, and remember who is logged in where.

The session lies in a file that only its user can read: address, token, and
the fleet's CA, which is all that is trusted.
"""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aggregator.api import (
    export_verbs,
    hook_model,
    hook_verbs,
    model,
    profile_model,
    profile_verbs,
    property_model,
    property_verbs,
    register_verbs,
    snapshot_verbs,
    storage_model,
    storage_verbs,
    template_model,
    template_verbs,
    transfer_verbs,
    verbs,
)
from aggregator.policies.properties import Declaration
from node import wire
from node.errors import Denied, Invalid
from node.http.client import DEADLINE_S, TlsTransport, VerbClient
from node.model.exports import ExportVm
from node.model.hooks import HookList
from node.model.ids import (
    DiskId,
    NodeId,
    PoolId,
    StorageDomainId,
    TemplateId,
    TransferId,
    VmId,
)
from node.model.requests import ActOnVm, DeleteVm, SetProperties, StartVm, StopVm
from node.model.storage import Transfer
from node.model.storage_requests import (
    CreateTransfer,
    FoundStorageDomains,
    SnapshotList,
    StorageProblems,
    TransferList,
)
from node.model.unregistered import Unregistered
from node.model.verbs import Verb

LINES_MAX: Final = 1000  # more nobody reads in a terminal
DISK_S: Final = 60.0  # on two nodes, one after the other
NODES_S: Final = 60.0  # on all nodes, eight at once
LOOK_S: Final = 60.0  # a node looks at a place, or reads all disks there
NODE_WAIT_S: Final = 2 * DEADLINE_S  # on top: a node is asked, and may be dead


class NotLoggedIn(Denied):
    code = "not_logged_in"
    remedy = "Log in first: skerry login ADDRESS."


class BadCertificate(Invalid):
    code = "bad_certificate"
    remedy = "Give the fleet's CA certificate as PEM, or log in without --ca."


@dataclass(frozen=True, slots=True)
class Session:
    address: str
    port: int
    token: str
    ca_certificate: str


def session_path() -> Path:
    """Return where the session of this user lies."""
    if named := os.environ.get("SKERRY_SESSION"):
        return Path(named)
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "skerry" / "session.json"


def load(path: Path) -> Session:
    """Return the session that `save` wrote; NotLoggedIn if there is none."""
    try:
        return wire.decode(Session, path.read_bytes(), strict=False)
    except FileNotFoundError as error:
        raise NotLoggedIn(f"there is no session in {path}") from error
    except Invalid as error:
        raise NotLoggedIn(f"{path} holds no session: {error}") from error


def save(path: Path, session: Session) -> None:
    """Write the session where only its user can read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(path.name + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(wire.encode(session))
    draft.replace(path)


def connect(session: Session) -> "FleetClient":
    """Return a client that speaks as the session's user."""
    headers = {"Authorization": f"Bearer {session.token}"} if session.token else {}
    transport = TlsTransport(session.address, session.port, trust(session))
    return FleetClient(transport, lambda: headers)


def origin(session: Session) -> str:
    """Return what an absolute address at the aggregator begins with."""
    host = f"[{session.address}]" if ":" in session.address else session.address
    return f"https://{host}:{session.port}"


def trust(session: Session) -> ssl.SSLContext:
    """Return what believes the fleet's CA alone; BadCertificate."""
    try:
        return ssl.create_default_context(cadata=session.ca_certificate)
    except (ssl.SSLError, ValueError) as error:
        raise BadCertificate(f"the CA's certificate cannot be read: {error}") from error


class FleetClient(VerbClient):
    """One method for each verb of `aggregator.api.verbs`."""

    def login(self, user: str, password: str) -> model.Token:
        return self.call(verbs.LOGIN, model.Token, model.Login(user, password))

    def status(self) -> model.AggregatorStatus:
        return self.call(verbs.STATUS, model.AggregatorStatus)

    def node_list(self) -> model.NodeLines:
        return self.call(verbs.NODE_LIST, model.NodeLines)

    def hook_list(self) -> model.FleetHooks:
        return self.call(hook_verbs.HOOK_LIST, model.FleetHooks)

    def center_hook_list(self) -> HookList:
        return self.call(hook_verbs.CENTER_HOOK_LIST, HookList)

    def hook_rules(self) -> hook_model.HookRulesReply:
        return self.call(hook_verbs.HOOK_RULES, hook_model.HookRulesReply)

    def hook_key_add(self, request: hook_model.AddHookKey) -> hook_model.HookRulesReply:
        kind = hook_model.HookRulesReply
        return self.call(hook_verbs.HOOK_KEY_ADD, kind, request)

    def hook_key_remove(
        self, request: hook_model.RemoveHookKey
    ) -> hook_model.HookRulesReply:
        kind = hook_model.HookRulesReply
        return self.call(hook_verbs.HOOK_KEY_REMOVE, kind, request)

    def hook_strict(
        self, request: hook_model.SetStrictHooks
    ) -> hook_model.HookRulesReply:
        kind = hook_model.HookRulesReply
        return self.call(hook_verbs.HOOK_STRICT, kind, request)

    def hook_install(
        self, request: hook_model.InstallBundle
    ) -> hook_model.HookOutcomes:
        kind = hook_model.HookOutcomes
        return self.call(hook_verbs.HOOK_INSTALL, kind, request, wait_s=NODES_S)

    def hook_remove(self, request: hook_model.RemoveBundle) -> hook_model.HookOutcomes:
        kind = hook_model.HookOutcomes
        return self.call(hook_verbs.HOOK_REMOVE, kind, request, wait_s=NODES_S)

    def node_admit(self, request: model.AdmitNode) -> model.NodeLine:
        return self.call(verbs.NODE_ADMIT, model.NodeLine, request, wait_s=NODE_WAIT_S)

    def node_remove(self, node_id: NodeId, *, is_forced: bool) -> model.NodeLines:
        request, kind = model.RemoveNode(is_forced), model.NodeLines
        verb = verbs.NODE_REMOVE
        return self.call(verb, kind, request, wait_s=NODE_WAIT_S, node_id=node_id)

    def token_make(self, lifetime_s: float) -> model.EnrolmentToken:
        request = model.MakeToken(lifetime_s)
        return self.call(verbs.TOKEN_MAKE, model.EnrolmentToken, request)

    def vm_list(self, search: str = "", maximum: int = LINES_MAX) -> model.VmLines:
        query = {"search": search, "max": maximum}
        return self.call(verbs.VM_LIST, model.VmLines, query=query)

    def vm_show(self, vm_id: VmId) -> model.VmDetail:
        return self.call(verbs.VM_SHOW, model.VmDetail, vm_id=vm_id)

    def vm_explain(self, request: model.NewVm) -> model.PlacementLines:
        return self.call(verbs.VM_EXPLAIN, model.PlacementLines, request)

    def vm_create(self, request: model.NewVm) -> model.OrderLine:
        return self.call(verbs.VM_CREATE, model.OrderLine, request)

    def vm_start(self, vm_id: VmId, request: StartVm) -> model.OrderLine:
        return self.call(verbs.VM_START, model.OrderLine, request, vm_id=vm_id)

    def vm_stop(self, vm_id: VmId, request: StopVm) -> model.OrderLine:
        return self.call(verbs.VM_STOP, model.OrderLine, request, vm_id=vm_id)

    def vm_act(
        self, verb: Verb, vm_id: VmId, request: DeleteVm | None = None
    ) -> model.OrderLine:
        """Pause, suspend, resume, reset or delete."""
        return self.call(verb, model.OrderLine, request or ActOnVm(), vm_id=vm_id)

    def vm_export(self, vm_id: VmId, request: ExportVm) -> model.OrderLine:
        verb = export_verbs.VM_EXPORT
        return self.call(verb, model.OrderLine, request, vm_id=vm_id)

    def vm_attach_disk(
        self, vm_id: VmId, request: model.AttachVmDisk
    ) -> model.OrderLine:
        return self.call(
            verbs.VM_ATTACH_DISK,
            model.OrderLine,
            request,
            wait_s=DISK_S,
            vm_id=vm_id,
        )

    def vm_detach_disk(
        self, vm_id: VmId, request: model.DetachVmDisk
    ) -> model.OrderLine:
        return self.call(
            verbs.VM_DETACH_DISK,
            model.OrderLine,
            request,
            wait_s=DISK_S,
            vm_id=vm_id,
        )

    def vm_set_properties(self, vm_id: VmId, request: SetProperties) -> model.OrderLine:
        return self._order(property_verbs.VM_SET_PROPERTIES, request, "vm_id", vm_id)

    def property_list(self) -> property_model.DeclaredProperties:
        kind = property_model.DeclaredProperties
        return self.call(property_verbs.PROPERTY_LIST, kind)

    def property_declare(self, request: property_model.DeclareProperty) -> Declaration:
        return self.call(property_verbs.PROPERTY_DECLARE, Declaration, request)

    def property_remove(
        self, request: property_model.RemoveProperty
    ) -> property_model.DeclaredProperties:
        kind = property_model.DeclaredProperties
        return self.call(property_verbs.PROPERTY_REMOVE, kind, request)

    def vm_snapshot_list(self, vm_id: VmId) -> SnapshotList:
        return self.call(snapshot_verbs.VM_SNAPSHOT_LIST, SnapshotList, vm_id=vm_id)

    def vm_snapshot_act(
        self, verb: Verb, request: object, vm_id: VmId
    ) -> model.OrderLine:
        """Order something of a VM's snapshots."""
        return self._order(verb, request, "vm_id", vm_id)

    def vm_serial(self, vm_id: VmId, tail_bytes: int) -> bytes:
        query, verb = {"tail_bytes": tail_bytes}, verbs.VM_SERIAL
        return self.send(verb, query=query, wait_s=NODE_WAIT_S, vm_id=vm_id).body

    def vm_screenshot(self, vm_id: VmId) -> bytes:
        verb = verbs.VM_SCREENSHOT
        return self.send(verb, wait_s=NODE_WAIT_S, vm_id=vm_id).body

    def order_list(self) -> model.OrderLines:
        return self.call(verbs.ORDER_LIST, model.OrderLines)

    def order_show(self, order_id: str, wait_s: float = 0.0) -> model.OrderLine:
        return self.call(
            verbs.ORDER_SHOW,
            model.OrderLine,
            query={"wait_s": wait_s},
            wait_s=wait_s,
            order_id=order_id,
        )

    def event_list(
        self, since: int | None = None, wait_s: float = 0.0
    ) -> model.EventLines:
        query = {"wait_s": wait_s} | ({} if since is None else {"since": since})
        return self.call(verbs.EVENT_LIST, model.EventLines, query=query, wait_s=wait_s)

    def storage_domain_list(self) -> storage_model.StorageDomainLines:
        kind = storage_model.StorageDomainLines
        return self.call(storage_verbs.STORAGE_DOMAIN_LIST, kind)

    def storage_domain_show(
        self, storage_domain_id: StorageDomainId
    ) -> storage_model.StorageDomainDetail:
        return self.call(
            storage_verbs.STORAGE_DOMAIN_SHOW,
            storage_model.StorageDomainDetail,
            storage_domain_id=storage_domain_id,
        )

    def storage_domain_look(
        self, request: storage_model.LookForStorage
    ) -> FoundStorageDomains:
        return self.call(
            storage_verbs.STORAGE_DOMAIN_LOOK,
            FoundStorageDomains,
            request,
            wait_s=LOOK_S,
        )

    def storage_domain_check(
        self, storage_domain_id: StorageDomainId
    ) -> StorageProblems:
        return self.call(
            storage_verbs.STORAGE_DOMAIN_CHECK,
            StorageProblems,
            wait_s=LOOK_S,
            storage_domain_id=storage_domain_id,
        )

    def storage_domain_unregistered(
        self, storage_domain_id: StorageDomainId
    ) -> Unregistered:
        return self.call(
            register_verbs.STORAGE_DOMAIN_UNREGISTERED,
            Unregistered,
            wait_s=LOOK_S,
            storage_domain_id=storage_domain_id,
        )

    def storage_domain_act(
        self,
        verb: Verb,
        request: object,
        storage_domain_id: StorageDomainId | None = None,
    ) -> model.OrderLine:
        """Order something of a storage domain; None: of one that is to come."""
        return self._order(verb, request, "storage_domain_id", storage_domain_id)

    def pool_list(self) -> storage_model.PoolLines:
        return self.call(storage_verbs.POOL_LIST, storage_model.PoolLines)

    def pool_show(self, pool_id: PoolId) -> storage_model.PoolDetail:
        kind = storage_model.PoolDetail
        return self.call(storage_verbs.POOL_SHOW, kind, pool_id=pool_id)

    def pool_act(self, verb: Verb, request: object, pool_id: PoolId) -> model.OrderLine:
        """Order something of a pool."""
        return self._order(verb, request, "pool_id", pool_id)

    def disk_list(
        self, search: str = "", maximum: int = LINES_MAX
    ) -> storage_model.DiskLines:
        query = {"search": search, "max": maximum}
        kind = storage_model.DiskLines
        return self.call(storage_verbs.DISK_LIST, kind, query=query)

    def disk_show(self, disk_id: DiskId) -> storage_model.DiskDetail:
        kind = storage_model.DiskDetail
        return self.call(storage_verbs.DISK_SHOW, kind, disk_id=disk_id)

    def disk_act(
        self, verb: Verb, request: object, disk_id: DiskId | None = None
    ) -> model.OrderLine:
        """Order something of a disk; None: of one that is to come."""
        wait_s = DISK_S if verb.is_slow else 0.0
        return self._order(verb, request, "disk_id", disk_id, wait_s)

    def qos_list(self) -> profile_model.StorageQosLines:
        return self.call(profile_verbs.QOS_LIST, profile_model.StorageQosLines)

    def qos_create(
        self, request: profile_model.NewStorageQos
    ) -> profile_model.StorageQosLine:
        kind = profile_model.StorageQosLine
        return self.call(profile_verbs.QOS_CREATE, kind, request)

    def qos_change(
        self, qos_id: str, request: profile_model.ChangeStorageQos
    ) -> profile_model.StorageQosLine:
        kind = profile_model.StorageQosLine
        return self.call(profile_verbs.QOS_CHANGE, kind, request, qos_id=qos_id)

    def qos_remove(self, qos_id: str) -> profile_model.StorageQosLines:
        verb, request = profile_verbs.QOS_REMOVE, profile_model.RemoveStorageQos()
        return self.call(verb, profile_model.StorageQosLines, request, qos_id=qos_id)

    def disk_profile_list(self) -> profile_model.DiskProfileLines:
        kind = profile_model.DiskProfileLines
        return self.call(profile_verbs.DISK_PROFILE_LIST, kind)

    def disk_profile_create(
        self, request: profile_model.NewDiskProfile
    ) -> profile_model.DiskProfileLine:
        verb, kind = profile_verbs.DISK_PROFILE_CREATE, profile_model.DiskProfileLine
        return self.call(verb, kind, request)

    def disk_profile_change(
        self, profile_id: str, request: profile_model.ChangeDiskProfile
    ) -> profile_model.DiskProfileLine:
        verb, kind = profile_verbs.DISK_PROFILE_CHANGE, profile_model.DiskProfileLine
        return self.call(verb, kind, request, profile_id=profile_id)

    def disk_profile_remove(self, profile_id: str) -> profile_model.DiskProfileLines:
        verb, kind = profile_verbs.DISK_PROFILE_REMOVE, profile_model.DiskProfileLines
        request = profile_model.RemoveDiskProfile()
        return self.call(verb, kind, request, profile_id=profile_id)

    def disk_choose_profile(
        self, disk_id: DiskId, profile_id: str
    ) -> profile_model.DiskProfileLine:
        verb, kind = profile_verbs.DISK_CHOOSE_PROFILE, profile_model.DiskProfileLine
        request = profile_model.ChooseDiskProfile(profile_id)
        return self.call(verb, kind, request, disk_id=disk_id)

    def template_list(self) -> template_model.TemplateLines:
        kind = template_model.TemplateLines
        return self.call(template_verbs.TEMPLATE_LIST, kind)

    def template_show(self, template_id: TemplateId) -> template_model.TemplateLine:
        verb, kind = template_verbs.TEMPLATE_SHOW, template_model.TemplateLine
        return self.call(verb, kind, template_id=template_id)

    def template_act(
        self, verb: Verb, request: object, template_id: TemplateId | None = None
    ) -> model.OrderLine:
        """Order something of a template; None: of one that is to come."""
        return self._order(verb, request, "template_id", template_id)

    def transfer_list(self) -> TransferList:
        return self.call(transfer_verbs.TRANSFER_LIST, TransferList)

    def transfer_show(self, transfer_id: TransferId) -> Transfer:
        verb = transfer_verbs.TRANSFER_SHOW
        return self.call(verb, Transfer, transfer_id=transfer_id)

    def transfer_create(self, request: CreateTransfer) -> Transfer:
        verb = transfer_verbs.TRANSFER_CREATE
        return self.call(verb, Transfer, request, wait_s=LOOK_S)

    def transfer_act(
        self, verb: Verb, request: object, transfer_id: TransferId
    ) -> Transfer:
        """Extend, pause, resume, finalize or cancel."""
        return self.call(verb, Transfer, request, transfer_id=transfer_id)

    def _order(
        self,
        verb: Verb,
        request: object,
        name: str,
        object_id: str | None,
        wait_s: float = 0.0,
    ) -> model.OrderLine:
        path: dict[str, Any] = {} if object_id is None else {name: object_id}
        return self.call(verb, model.OrderLine, request, wait_s=wait_s, **path)

    def openapi(self) -> Mapping[str, Any]:
        return dict(wire.parse(self.send(verbs.OPENAPI).body))
