"""The verbs of storage QoS and disk profiles of the aggregator's own API."""

from aggregator.api import profile_model as model
from aggregator.api.table import act, read
from node.model.verbs import ActionGroup, Object, Verb

_QOS = "/v1/storage-qos"
_PROFILES = "/v1/disk-profiles"

QOS_LIST = read("qos_list", _QOS, "List storage QoS by name.", model.StorageQosLines)
QOS_CREATE = act(
    "qos_create",
    _QOS,
    "Make a storage QoS: limits that disk profiles of a data center may have.",
    ActionGroup.EDIT_POOL,
    Object.FLEET,
    model.NewStorageQos,
    model.StorageQosLine,
    201,
)
QOS_CHANGE = act(
    "qos_change",
    f"{_QOS}/{{qos_id}}/change",
    "Change a storage QoS; the disks of its profiles follow.",
    ActionGroup.EDIT_POOL,
    Object.FLEET,
    model.ChangeStorageQos,
    model.StorageQosLine,
)
QOS_REMOVE = act(
    "qos_remove",
    f"{_QOS}/{{qos_id}}/remove",
    "Remove a storage QoS that no disk profile has.",
    ActionGroup.EDIT_POOL,
    Object.FLEET,
    model.RemoveStorageQos,
    model.StorageQosLines,
)
DISK_PROFILE_LIST = read(
    "disk_profile_list",
    _PROFILES,
    "List disk profiles by their storage domains.",
    model.DiskProfileLines,
)
DISK_PROFILE_CREATE = act(
    "disk_profile_create",
    _PROFILES,
    "Make a disk profile of a storage domain.",
    ActionGroup.CONFIGURE_DISK_PROFILE,
    Object.FLEET,
    model.NewDiskProfile,
    model.DiskProfileLine,
    201,
)
DISK_PROFILE_CHANGE = act(
    "disk_profile_change",
    f"{_PROFILES}/{{profile_id}}/change",
    "Change a disk profile; its disks follow.",
    ActionGroup.CONFIGURE_DISK_PROFILE,
    Object.FLEET,
    model.ChangeDiskProfile,
    model.DiskProfileLine,
)
DISK_PROFILE_REMOVE = act(
    "disk_profile_remove",
    f"{_PROFILES}/{{profile_id}}/remove",
    "Remove a disk profile that no disk has; the default one stays.",
    ActionGroup.CONFIGURE_DISK_PROFILE,
    Object.FLEET,
    model.RemoveDiskProfile,
    model.DiskProfileLines,
)
DISK_CHOOSE_PROFILE = act(
    "disk_choose_profile",
    "/v1/disks/{disk_id}/profile",
    "Give a disk another disk profile; its limits follow.",
    ActionGroup.ATTACH_DISK_PROFILE,
    Object.DISK,
    model.ChooseDiskProfile,
    model.DiskProfileLine,
)

VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
