"""What the errors of pools, storage domains and leases say: code, text, remedy.

Part of the table in `messages`; an error that a request meets brings a message of its
own, these are for reasons that outlive it.
"""

from typing import Final

TABLE: Final = (
    (
        "storage_domain_unknown",
        "This node does not reach the storage domain.",
        "Attach the storage domain to the pool, and connect this node to it.",
    ),
    (
        "storage_domain_connecting",
        "This node does not reach the storage domain yet.",
        "Try again in a moment; else see what `storage show` says of it.",
    ),
    (
        "pool_map_lost",
        "No storage domain within reach has the newest map of the pool.",
        "Repair the storage, or reconstruct the master on another storage domain.",
    ),
    (
        "storage_domain_not_in_pool",
        "The storage domain is not in the pool.",
        "Attach the storage domain to the pool first.",
    ),
    (
        "pool_moved",
        "The pool changed meanwhile.",
        "Look at the pool again, and decide anew.",
    ),
    (
        "pool_exists",
        "The pool has been made already, of another storage domain.",
        "Attach the storage domain to the pool instead.",
    ),
    (
        "storage_domain_copied",
        "The storage domain says that it lies elsewhere.",
        "Never use a copy beside the original: its leases protect nothing. If "
        "the storage was moved and the original is gone, import it with force.",
    ),
    (
        "storage_domain_active",
        "The storage domain is active.",
        "Put the storage domain into maintenance first.",
    ),
    (
        "storage_domain_is_master",
        "The storage domain is the master of the pool.",
        "Make another data storage domain the master first.",
    ),
    (
        "storage_domain_holds_no_data",
        "Only an active data storage domain can do this.",
        "Choose an active data storage domain of the pool.",
    ),
    (
        "pool_map_damaged",
        "A copy of the pool's map is damaged.",
        "Nothing was changed. The pool goes on with the copy of another storage "
        "domain; if there is none, reconstruct the master.",
    ),
    (
        "newer_pool_map",
        "The pool's map was written by a newer version.",
        "Upgrade this node.",
    ),
    (
        "bad_pool_map",
        "This cannot be the map of a pool.",
        "Correct what the message names.",
    ),
    (
        "long_storage_domain_description",
        "What is said of the storage domain is too long.",
        "Use at most 1024 bytes.",
    ),
    (
        "storage_domain_of_other_pool",
        "The storage domain belongs to another pool.",
        "Detach it there before it is attached here.",
    ),
    (
        "not_spm",
        "The node does not manage the pool.",
        "Ask the node that manages the pool.",
    ),
    (
        "spm_stands_back",
        "The node gave the management away a moment ago.",
        "Ask another node, or wait until the time that the message names.",
    ),
    (
        "spm_changing",
        "The node is becoming manager of the pool, or leaving.",
        "Try again in a moment.",
    ),
    (
        "pool_work_under_way",
        "Jobs of the pool's manager are under way.",
        "Wait until the pool's jobs have ended, or cancel them, then try again.",
    ),
    (
        "storage_domain_not_held",
        "The manager does not hold the storage domain's lease.",
        "Activate the storage domain. If it is active, it did not answer for a "
        "while: the manager takes its lease again as soon as it does.",
    ),
    (
        "spm_held",
        "Another node holds the lease, and may be alive.",
        "Tell its holder to leave, or wait until its lease is free.",
    ),
    (
        "spm_moved",
        "The lease had another owner meanwhile.",
        "Look again who manages the pool, and decide anew.",
    ),
    (
        "storage_folder_taken",
        "Another storage domain lies in the folder.",
        "Import the storage domain that is there, or choose an empty folder.",
    ),
    (
        "storage_folder_denied",
        "The storage user may not write to the folder.",
        "On the server: chown 36:36 and chmod 0771 the folder that the message "
        "names; export it for writing.",
    ),
    (
        "storage_domain_in_pool",
        "A pool uses the storage domain.",
        "Detach it from its pool first.",
    ),
    (
        "storage_folder_not_local",
        "Other hosts may reach the folder, too.",
        "Choose a folder on a disk of this host, or make a shared storage domain.",
    ),
    (
        "lockspace_damaged",
        "The lockspace of the storage domain is damaged.",
        "Put the storage domain into maintenance everywhere, then have its "
        "lockspace formatted again.",
    ),
    (
        "host_ids_used_up",
        "Every host id of the storage domain belongs to a node.",
        "A pool has at most 250 nodes: take one out of it first.",
    ),
    (
        "lockspace_elsewhere",
        "The node uses a storage domain of the same id elsewhere.",
        "Two storage domains have one id. Put the one that the message names "
        "into maintenance, and never use a copy beside the original.",
    ),
    (
        "volume_illegal",
        "A volume of the disk's chain must not be used now.",
        "Wait if a job works on the disk; if none does, see what `skerry-node "
        "storage check` says of it.",
    ),
    (
        "mount_failed",
        "The file system could not be mounted.",
        "Check the server, the export and the options that the message names.",
    ),
    (
        "mount_busy",
        "A program still uses the file system.",
        "End what uses it, then try again.",
    ),
    (
        "mount_point_taken",
        "Another file system is mounted there.",
        "Unmount what is there, if it is not needed.",
    ),
    (
        "leases_down",
        "The daemon sanlock does not run.",
        "Start sanlock again, and read its log.",
    ),
    (
        "lease_held",
        "Another host holds the lease, or did until it was last heard of.",
        "Wait until its owner releases it, or is known to be dead.",
    ),
    (
        "lease_moved",
        "The lease had another owner meanwhile.",
        "Whatever the old lease protected belongs to somebody else now: end it.",
    ),
    (
        "host_id_held",
        "Another host has this host id.",
        "Use another host id, or leave the lockspace first.",
    ),
    (
        "lease_busy",
        "The host is joining, leaving, acquiring or releasing just now.",
        "Try again in a moment.",
    ),
    (
        "hosts_unknown",
        "It is not known yet who is in the lockspace.",
        "Wait for the next renewal: 20 s with sanlock's own times.",
    ),
    (
        "lease_in_use",
        "A lease in the lockspace is held on this host.",
        "Wait for what the lease protects, and release the lease first.",
    ),
    (
        "not_a_lease",
        "There is no such lease.",
        "Check the path and the offset, or write the lease first.",
    ),
    (
        "lease_not_held",
        "This host does not hold the lease.",
        "Join the lockspace and acquire the lease first.",
    ),
    (
        "lease_failed",
        "The lease could not be written or read.",
        "Check the storage that the lease lies on, and sanlock's log.",
    ),
    (
        "killpath_too_long",
        "The path of a program is too long for sanlock.",
        "Install the product in a folder with a shorter path.",
    ),
    # what the verbs on pools and storage domains refuse
    (
        "pool_kinds_differ",
        "A local pool has local storage domains only, a shared one none.",
        "Choose a storage domain of the same kind, or copy the disks.",
    ),
    (
        "storage_repair_failed",
        "A problem of a disk could not be mended.",
        "Check again; what the message names may need a person.",
    ),
    (
        "storage_domain_option_unsupported",
        "The storage domain has no place for that option.",
        "Leave the option out.",
    ),
    (
        "pool_not_joined",
        "Nothing of the pool could be used within the time.",
        "The node goes on trying. Check its way to the storage, and that "
        "sanlock runs; or disconnect it from the pool.",
    ),
    (
        "pool_managed_here",
        "This node manages the pool.",
        "Let another node manage the pool first.",
    ),
    (
        "local_pool_stays",
        "A node manages the pool of its own disk for ever.",
        "Remove its disks instead.",
    ),
    (
        "storage_domain_not_found",
        "No such storage domain lies there.",
        "Check the connection; look what is there first.",
    ),
    (
        "storage_domains_several",
        "Several storage domains lie there.",
        "Name the one to import by its id.",
    ),
    (
        "storage_domain_id_taken",
        "The id is another storage domain's.",
        "Choose a new random UUID for each storage domain.",
    ),
    (
        "storage_path_not_absolute",
        "The path does not begin with a slash.",
        "Name the folder by its whole path, beginning with a slash.",
    ),
    (
        "storage_folder_not_shared",
        "Other hosts cannot reach the folder.",
        "Mount the shared file system there first, on every host, or say which "
        "file system to mount; for a disk of this host alone make a local "
        "storage domain.",
    ),
    (
        "connection_incomplete",
        "The way to the storage is incomplete.",
        "Add what the message names.",
    ),
    (
        "bad_spm_priority",
        "That is no priority.",
        "Choose -1 (never) to 10.",
    ),
    (
        "local_storage_folder",
        "The folder of the local storage domain cannot be made.",
        "Mend what the message names, or choose another folder (local_storage).",
    ),
)

# Why a transfer does not go on, or has not ended well.
TRANSFERS: Final = (
    (
        "transfer_interrupted",
        "The transfer of disk {name} was interrupted: {detail}",
        "Resume it, and send again what came after the last flush.",
    ),
    (
        "transfer_server_restarted",
        "The transfer server was restarted while it served disk {name}.",
        "Resume the transfer, and send again what came after the last flush.",
    ),
    (
        "transfer_unused",
        "Nobody has used the transfer of disk {name} for a while.",
        "Resume it if it is paused; else begin another one.",
    ),
    (
        "transfer_manager_leaves",
        "This node gives up the management of the pool of disk {name}.",
        "Begin another transfer when the pool has a manager.",
    ),
    (
        "transfer_manager_lost",
        "This node does not manage the pool of disk {name} any more: {detail}",
        "Begin another transfer: the new manager serves it.",
    ),
    (
        "transfer_failed",
        "The transfer of disk {name} failed: {detail}",
        "Correct what the message names, then begin another transfer.",
    ),
)
