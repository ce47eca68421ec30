"""What each code of an event or a reason says: severity, text, remedy.

One table. Texts are English and go through gettext at the faces; `{field}`
names a field of the event or reason. oVirt's number is what its clients see.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from node.model import storage_errors
from node.model.reason import Scalar


class Severity(StrEnum):
    NORMAL = "normal"
    WARNING = "warning"
    ERROR = "error"
    ALERT = "alert"


@dataclass(frozen=True, slots=True)
class Message:
    code: str
    severity: Severity
    text: str
    remedy: str = ""
    ovirt_code: int = 0  # 0: oVirt has no such event


def _normal(code: str, text: str, ovirt_code: int = 0) -> Message:
    return Message(code, Severity.NORMAL, text, "", ovirt_code)


def _warning(code: str, text: str, remedy: str, ovirt_code: int = 0) -> Message:
    return Message(code, Severity.WARNING, text, remedy, ovirt_code)


def _error(code: str, text: str, remedy: str, ovirt_code: int = 0) -> Message:
    return Message(code, Severity.ERROR, text, remedy, ovirt_code)


_TABLE = (
    # a VM's life, as its node sees it
    _normal("vm_created", "VM {name} was created.", 34),
    _normal("vm_deleted", "VM {name} was deleted.", 113),
    _warning(
        "vm_disks_left",
        "Disks of VM {name}, which was deleted, stay where no storage domain is "
        "active: {disks}",
        "Activate their storage domain, then delete them.",
    ),
    _normal("vm_start_asked", "VM {name} is being started.", 153),
    _normal("vm_started", "VM {name} runs on {node}.", 32),
    _normal("vm_stop_asked", "VM {name} is being shut down.", 73),
    _normal("vm_stopped", "VM {name} was shut down by an administrator.", 33),
    _normal("vm_ended_by_guest", "The guest of VM {name} shut itself down.", 61),
    _warning(
        "vm_killed",
        "VM {name} was ended by force.",
        "Check the guest's file systems when it starts again.",
        33,
    ),
    _error(
        "vm_crashed",
        "VM {name} ended unexpectedly: {detail}",
        "Read the VM's serial log and QEMU's log on its node, then start it again.",
        119,
    ),
    _warning(
        "vm_lost_with_host",
        "VM {name} ended when its host {node} went down.",
        "Start it again.",
        119,
    ),
    _error(
        "vm_lease_lost",
        "VM {name} was ended, since {node} lost its storage and with it the lease.",
        "Bring the storage back on {node}, or start the VM on another node.",
        119,
    ),
    _error(
        "vm_lease_moved",
        "VM {name} was ended on {node}: while it was paused, it ran elsewhere.",
        "Look at the guest: what it had in memory only is lost.",
        119,
    ),
    _warning(
        "vm_end_unknown",
        "VM {name} ended while nobody looked, and nothing says how.",
        "Look at the guest's own logs, then start it again.",
        119,
    ),
    _error(
        "vm_start_failed",
        "VM {name} could not be started on {node}: {detail}",
        "Correct what the message names, then start it again.",
        54,
    ),
    _normal("vm_paused", "VM {name} was paused.", 503),
    _normal("hook_said", "Hook {script} ({point}) of VM {name}: {detail}"),
    _warning(
        "hook_failed",
        "Hook {script} ({point}) of VM {name} failed: {detail}",
        "Run it alone: `skerry-node hooks test`.",
    ),
    _warning(
        "hook_refused",
        "Hook {script} ({point}) does not run for VM {name}: {detail}",
        "Put the script right on the node that the event is of.",
    ),
    _warning(
        "hook_edit_unusual",
        "What hook {script} made of VM {name} is not in libvirt's schema: {detail}",
        "Compare the script with libvirt's documentation of the domain XML.",
    ),
    _normal(
        "hook_bundle_installed",
        "Hook bundle {name}, version {version}, was installed; key {key} signed it.",
    ),
    _warning(
        "hook_bundle_unsigned",
        "Hook bundle {name}, version {version}, was installed, and nobody known "
        "has signed it.",
        "Sign it with a key of the fleet, and install it anew.",
    ),
    _normal(
        "hook_bundle_removed", "Hook bundle {name}, version {version}, was removed."
    ),
    _normal("vm_suspended", "VM {name} was suspended on {node}.", 501),
    _normal("vm_resumed", "VM {name} was resumed.", 40),
    _normal("vm_reset", "VM {name} was reset.", 157),
    _normal("vm_rebooted", "The guest of VM {name} rebooted.", 157),
    _warning(
        "vm_paused_by_error",
        "VM {name} was paused: {detail}",
        "Correct the storage error, then resume it.",
        138,
    ),
    _warning(
        "vm_not_responding",
        "QEMU of VM {name} does not answer.",
        "Wait; if it does not recover, stop the VM by force.",
        126,
    ),
    _normal("vm_responding", "QEMU of VM {name} answers again.", 126),
    _warning(
        "vm_shutdown_ignored",
        "The guest of VM {name} did not shut down within {deadline_s} s.",
        "Stop it by force, or look at its console.",
        74,
    ),
    # reasons of a VM's state
    _normal("vm_never_started", "It has not been started yet."),
    _normal("vm_waits_for_guest", "QEMU runs; the guest has not answered yet."),
    _normal("vm_is_starting", "A start is under way."),
    _normal("vm_is_stopping", "A shutdown is under way."),
    _warning(
        "vm_node_silent",
        "Its node {node} is silent, so its state is not known.",
        "Bring the node or its network back.",
    ),
    _warning(
        "libvirt_down",
        "libvirt does not answer: {detail}",
        "Start libvirtd again, and read its log.",
    ),
    _warning(
        "vms_stuck",
        "{count} VMs hang, and hold up the questions to others.",
        "Stop the VMs that do not respond by force.",
    ),
    _warning(
        "vms_left_behind",
        "VMs of an older agent lie on no storage domain, and cannot start: {names}.",
        "Upload what you need of /var/lib/skerry/disks with skerry-node, and create the"
        " VMs again with it; then move the folder away.",
    ),
    _warning(
        "libvirt_guests_on",
        "libvirt-guests.service would stop or suspend guests behind our back.",
        "Run: systemctl disable --now libvirt-guests",
    ),
    # the node
    _normal("node_started", "The agent of node {node} started.", 13),
    _normal("node_up", "Node {node} is up.", 13),
    _warning(
        "node_suspect",
        "Node {node} has said nothing for {silence_s} s.",
        "Wait a moment; if it stays silent, check the node and its network.",
        12,
    ),
    _error(
        "node_unreachable",
        "Node {node} has said nothing for {silence_s} s: it is unreachable.",
        "Check its power, its network, and the agent on its console.",
        12,
    ),
    _warning(
        "node_never_heard",
        "Node {node} has not spoken since this aggregator started.",
        "Wait a moment; if it stays silent, check the node and its network.",
    ),
    _normal("hook_key_added", "Key {name} ({key}) may sign bundles of hooks."),
    _normal("hook_key_removed", "Key {name} may sign bundles of hooks no more."),
    _normal("hooks_strict", "VMs that libvirt's schema dislikes do not start."),
    _normal("hooks_lenient", "VMs that libvirt's schema dislikes start, and warn."),
    _normal("center_hook_said", "Center hook {script} ({point}) of {name}: {detail}"),
    _warning(
        "center_hook_failed",
        "Center hook {script} ({point}) of {name} failed: {detail}",
        "Do what the script asks for, or mend it on the aggregator.",
    ),
    _warning(
        "center_hook_refused",
        "Center hook {script} ({point}) does not run for {name}: {detail}",
        "Put the script right on the aggregator.",
    ),
    _error(
        "center_hooks_full",
        "Center hooks are not told how {action} of {name} ends: too much waits for "
        "them.",
        "See which script after_… takes so long, and mend it.",
    ),
    _normal("node_candidate", "Node {node} at {address} waits for admission.", 42),
    _normal("node_admitted", "Node {node} was admitted.", 42),
    _normal("node_removed", "Node {node} was removed from the fleet.", 44),
    _error(
        "node_identity_changed",
        "A node that calls itself {node} shows another key than the one admitted.",
        "If it was reinstalled, remove and admit it anew; else find out who it is.",
        9606,
    ),
    _warning(
        "node_token_refused",
        "A node at {address} offered a token that is {why}.",
        "Make a new token if this node is yours.",
        9606,
    ),
    _warning(
        "caller_refused",
        "A caller with the certificate {fingerprint} was refused: {why}",
        "If it is yours, admit it to this fleet.",
        9606,
    ),
    _warning(
        "kvm_unusable",
        "Guests are emulated: KVM cannot be used: {detail}",
        "Enable VT-x or AMD-V in the firmware, or accept slow guests.",
    ),
    _warning(
        "clock_skew",
        "The clock of node {node} is {skew_s} s off.",
        "Set up time synchronisation on the node.",
    ),
    _warning(
        "storage_full",
        "The disk that holds {path} is full: {detail}",
        "Free space on it; nothing was changed.",
    ),
    _warning(
        "aggregator_unreachable",
        "Aggregator {aggregator} cannot be reached: {detail}",
        "Check the network and the aggregator; guests are not affected.",
    ),
    _warning(
        "aggregator_superseded",
        "A command of term {term} was refused: term {newest} leads.",
        "Use the aggregator that leads, or promote this one.",
    ),
    _error(
        "certificate_not_renewed",
        "The certificate of {node} ends at {expires_at} and could not be renewed: "
        "{detail}",
        "Check that the aggregator's admission port can be reached from the node.",
        9606,
    ),
    _error(
        "fleet_documents_differ",
        "Aggregator {aggregator} sent other fleet documents for term {term}, "
        "version {version} than are kept here.",
        "Two aggregators lead with one term: promote the right one, stop the other.",
    ),
    _warning(
        "admission_refused",
        "Somebody with the CA {fingerprint} tried to admit this node.",
        "If the node is to change fleets, release it with `skerry-node leave` first.",
        9606,
    ),
    _normal("node_joined", "The node joined fleet {fleet} (CA {fingerprint})."),
    _normal("node_left", "The node left fleet {fleet}."),
    _normal("certificate_renewed", "The certificate of {node} was renewed."),
    # the aggregator
    _normal("aggregator_started", "Aggregator {aggregator} started, term {term}.", 1),
    _normal("aggregator_promoted", "Aggregator {aggregator} leads with term {term}."),
    _normal("user_logged_in", "User {user} logged in from {address}.", 30),
    _warning(
        "user_login_failed",
        "A login of {user} from {address} failed.",
        "Check the name and the password.",
        114,
    ),
    _normal("user_logged_out", "User {user} logged out.", 31),
    _normal("token_made", "A token for one node was made; it ends at {expires_at}."),
    _normal("vm_placed", "VM {name} was placed on {node}."),
    _warning(
        "vm_not_placed",
        "No node can take VM {name}: {detail}",
        "Add capacity, or ask for less.",
        54,
    ),
    # why a node cannot take a VM
    _normal("node_is_not_up", "Node {node} is {state}."),
    _normal("node_lacks_image", "Node {node} has no base image {image}."),
    _normal("node_lacks_network", "Node {node} has no network {network}."),
    _normal("node_lacks_cpus", "Node {node} has {count} CPUs, {needed} are asked for."),
    _normal("node_lacks_cpu_model", "Node {node} cannot offer CPU model {model}."),
    _normal("node_lacks_machine", "Node {node} has no machine type {machine}."),
    _normal("node_lacks_hook", "Node {node} has no script {hook} that may run."),
    _normal("node_lacks_uefi", "Node {node} cannot start guests by UEFI."),
    _normal("node_only_emulates", "Node {node} has no KVM; emulation is not allowed."),
    _normal(
        "node_lacks_memory",
        "Node {node} has {free_mib} MiB free, {needed_mib} MiB are needed.",
    ),
    _normal("vm_name_taken", "There is already a VM named {name}."),
    _error(
        "action_failed",
        "{verb} on {node} failed: {detail}",
        "Follow the remedy in the message, then try again.",
        54,
    ),
    _error(
        "documents_conflict",
        "{kind} {id} is claimed by {node} and by {other}.",
        "Find out which of them is right, and remove the other.",
    ),
    # storage domains and pools
    _error(
        "storage_process_down",
        "The storage process of this node does not answer: {detail}",
        "It is started again by itself; if not, read the log of skerry-storage.",
    ),
    _normal("storage_domain_created", "Storage domain {name} was created.", 956),
    _normal("storage_domain_imported", "Storage domain {name} was imported.", 956),
    _normal("storage_domain_removed", "Storage domain {name} was removed.", 960),
    _normal("storage_domain_attached", "{name} was attached to pool {pool}.", 962),
    _normal("storage_domain_detached", "{name} was detached from pool {pool}.", 964),
    _normal("storage_domain_changed", "Storage domain {name} was changed."),
    _normal("storage_domain_activated", "Storage domain {name} is active.", 966),
    _normal("storage_domain_in_maintenance", "{name} is in maintenance.", 968),
    _normal("storage_domain_is_activating", "It is being activated."),
    _normal("storage_domain_not_attached", "It belongs to no pool."),
    _error(
        "storage_domain_unreachable",
        "Node {node} cannot use storage domain {name}: {detail}",
        "Check the server, the network to it, and the mount on the node.",
        996,
    ),
    _normal("storage_domain_reached", "Node {node} can use {name} again."),
    _warning(
        "storage_domain_slow",
        "Storage domain {name} took {latency_s} s to answer node {node}.",
        "Check the load of the storage and of the network to it.",
        524,
    ),
    _warning(
        "storage_domain_low",
        "Storage domain {name} has {free_mib} MiB left.",
        "Delete or move disks, or make the storage larger.",
        26,
    ),
    _error(
        "storage_domain_damaged",
        "Storage domain {name} is damaged: {detail}",
        "Run `skerry-node storage check` and follow what it says.",
        996,
    ),
    _warning(
        "ovf_store_damaged",
        "Definitions of VMs for oVirt cannot be read: {detail}",
        "Nothing, if VMs are listed all the same: the other copy is whole.",
    ),
    _warning(
        "unregistered_vm_damaged",
        "VM {name} cannot be registered: {detail}",
        "Restore its definition, or make a new VM with its disks.",
    ),
    _warning(
        "unregistered_vms_late",
        "VMs that came with the storage are missing from the list: {detail}",
        "See how slow the storage is; a VM whose id is known can be registered.",
    ),
    _error(
        "storage_domain_foreign",
        "Storage domain {name} belongs to pool {pool}, not to this one.",
        "Detach it there first; two fleets on one storage domain destroy it.",
        996,
    ),
    _normal("pool_created", "Pool {name} was created.", 950),
    _normal("pool_joined", "Node {node} joined pool {pool}."),
    _normal("pool_left", "Node {node} left pool {pool}."),
    _normal("pool_master_moved", "{storage_domain} is the master of pool {pool}."),
    _warning(
        "pool_master_reconstructed",
        "Pool {pool} has a new master, {storage_domain}: the old one was lost.",
        "Repair or remove the old master; it is demoted if it comes back.",
        984,
    ),
    _error(
        "pool_maps_differ",
        "{storage_domain} and {other} hold different maps of one generation.",
        "Two managers wrote, or a storage domain was copied. Detach the copy, or "
        "reconstruct the master from the storage domain that you trust.",
        990,
    ),
    # who manages a pool
    _normal("spm_started", "Node {node} manages pool {pool}.", 204),
    _normal("spm_stopped", "Node {node} does not manage pool {pool} any more."),
    _warning(
        "spm_lost",
        "Node {node} lost the lease of pool {pool}: {detail}",
        "Nothing: another node is elected. Check the node's path to its storage.",
        986,
    ),
    _normal(
        "spm_members_unknown",
        "Node {node} joined just now, and does not know yet who else is there.",
    ),
    _warning(
        "spm_round_failed",
        "The node cannot see who manages the pool: {detail}",
        "Check the node's path to the master storage domain.",
    ),
    _error(
        "pool_round_broke",
        "A bug keeps the node from looking after pool {pool}: {detail}",
        "Report it with the log of the agent. It goes on with the next round.",
    ),
    _normal("spm_election_runs", "A node was asked to become manager."),
    _normal("spm_moved_by_hand", "An administrator moved the manager."),
    _normal("spm_lease_free", "The pool has no manager."),
    _normal("spm_holder_lost", "The manager does not serve or is out of reach."),
    _normal("spm_holder_serves", "Node {node} manages the pool."),
    _normal(
        "spm_holder_may_live",
        "Node {node} had the lease, and whether it lives is not known yet.",
    ),
    _warning(
        "spm_nobody_else",
        "Node {node} still manages the pool, because no other node can.",
        "Make another node able to; the list says what each one lacks.",
    ),
    _error(
        "spm_no_candidate",
        "None of {count} nodes can manage the pool.",
        "Make one of them able to; the list says what each one lacks.",
        979,
    ),
    _error(
        "spm_master_lost",
        "No node can use the master, {storage_domain}.",
        "Repair the storage, or reconstruct the master on another storage domain.",
        983,
    ),
    _normal("spm_leader_heard", "Node {node} hears an aggregator, which elects."),
    _normal("spm_not_my_turn", "It is not the turn of node {node}."),
    _normal("spm_nominated", "No aggregator speaks; it is the turn of node {node}."),
    _normal("spm_node_not_up", "Node {node} is not up."),
    _normal("spm_node_never", "Node {node} must never manage a pool."),
    _normal("spm_node_in_maintenance", "Node {node} is in maintenance."),
    _normal("spm_node_not_joined", "Node {node} is not in the pool's lockspace."),
    _normal("spm_node_lacks_watchdog", "Node {node} has no watchdog."),
    _normal("spm_node_lacks_master", "Node {node} cannot use the master."),
    _normal("spm_node_lacks_domains", "Node {node} cannot use {storage_domains}."),
    _normal("spm_node_stands_back", "Node {node} gave the lease away and stands back."),
    _normal("spm_node_failed", "Node {node} tried lately and failed."),
    _error(
        "pool_lacks_watchdog",
        "Node {node} has no watchdog and may not join pool {pool}.",
        "Enable a hardware watchdog or load softdog, start wdmd, then join again.",
    ),
    *(_error(*each) for each in storage_errors.TABLE),
    *(_warning(*each) for each in storage_errors.TRANSFERS),
    # what an aggregator knows and decides of pools
    _warning(
        "storage_told_by_silent_node",
        "Node {node} told this last, and is silent now.",
        "Bring the node or its network back, or wait for another manager.",
    ),
    _normal(
        "disk_told_by_former_manager",
        "Node {node}, which managed the pool, told this last; a new manager reads it.",
    ),
    _normal("spm_elected", "Node {node} is to manage pool {pool}: {detail}", 204),
    _normal("pool_adopted", "Pool {pool} is now that of its nodes' data center."),
    # disks, snapshots, templates, transfers
    _normal("disk_created", "Disk {name} was created.", 2021),
    _normal("disk_deleted", "Disk {name} was deleted.", 2014),
    _normal(
        "disk_copy_deleted", "The copy of disk {name} on {storage_domain} was deleted."
    ),
    _normal("disk_moved", "Disk {name} was moved to {storage_domain}.", 2010),
    _normal("disk_copied", "Disk {name} was copied to {storage_domain}.", 2006),
    _normal("disk_resized", "Disk {name} has {size_bytes} bytes.", 371),
    _normal("disk_changed", "Disk {name} was changed.", 88),
    _normal("disk_sparsified", "Disk {name} gave back what it does not use.", 1326),
    _normal("disk_is_locked", "Job {job} works on it."),
    _normal("disk_repaired", "Disk {name} was repaired: {problem}."),
    _error(
        "storage_job_failed",
        "{verb} of disk {name} failed: {detail}",
        "Follow the remedy that `skerry-node job show` tells, then try again.",
    ),
    _error(
        "disk_chain_illegal",
        "The chain of disk {name} is not whole: {detail}",
        "Run `skerry-node storage check`; it explains and repairs.",
    ),
    _normal("snapshot_created", "Snapshot {name} of VM {vm} was taken.", 68),
    _normal("snapshot_deleted", "Snapshot {name} of VM {vm} was deleted.", 356),
    _normal("snapshot_previewed", "VM {vm} previews snapshot {name}.", 71),
    _normal("snapshot_restored", "VM {vm} went back to snapshot {name}.", 100),
    _warning(
        "snapshot_not_consistent",
        "Snapshot {name} of VM {vm} was taken without freezing its file systems.",
        "Install the guest agent, or shut the VM down for snapshots.",
    ),
    _warning(
        "snapshot_without_memory",
        "Snapshot {name} of VM {vm} was taken, but its memory was not kept.",
        "Use it without its memory, or take another; the node's log says why.",
    ),
    _normal("vm_exported", "VM {name} was exported.", 1150),
    _normal("exported_removed", "The export of VM {vm} was removed."),
    _normal("template_exported", "Template {name} was exported."),
    _normal("template_created", "Template {name} was made.", 51),
    _normal("template_deleted", "Template {name} was deleted.", 251),
    _warning(
        "template_in_use",
        "Template {name} is in use by {users}.",
        "Delete its users, or turn them into full clones first.",
    ),
    _normal("transfer_started", "A transfer of disk {name} began."),
    _normal("transfer_finished", "The transfer of disk {name} is complete."),
    _warning(
        "transfer_ended",
        "The transfer of disk {name} ended early: {detail}",
        "Start it again; an upload goes on where it stopped.",
    ),
)

MESSAGES: Mapping[str, Message] = {message.code: message for message in _TABLE}
assert len(MESSAGES) == len(_TABLE), "a code stands twice in the table"


def text(
    code: str,
    fields: Mapping[str, Scalar],
    translate: Callable[[str], str] = str,
) -> str:
    """Return what a code says, for a person; unknown codes are shown as they are."""
    message = MESSAGES.get(code)
    return _fill(message.text if message else code, fields, translate)


def remedy(
    code: str,
    fields: Mapping[str, Scalar],
    translate: Callable[[str], str] = str,
) -> str:
    """Return what to do about a code; empty if there is nothing to do."""
    message = MESSAGES.get(code)
    return _fill(message.remedy, fields, translate) if message else ""


def severity(code: str) -> Severity:
    """Return how grave a code is; one that is not known is not."""
    message = MESSAGES.get(code)
    return message.severity if message else Severity.NORMAL


class _Shown(dict[str, Scalar]):
    def __missing__(self, key: str) -> str:
        return "?"


def _fill(
    template: str, fields: Mapping[str, Scalar], translate: Callable[[str], str]
) -> str:
    return translate(template).format_map(_Shown(fields)) if template else ""
