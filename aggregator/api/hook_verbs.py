"""The verbs of hooks of the aggregator's own API."""

from aggregator.api import hook_model as model
from aggregator.api.model import FleetHooks
from aggregator.api.table import act, read
from node.model.hooks import HookList
from node.model.verbs import ActionGroup, Object, Verb

HOOK_LIST = read(
    "hook_list",
    "/v1/hooks",
    "List the hooks of all nodes, and where they differ.",
    FleetHooks,
)
CENTER_HOOK_LIST = read(
    "center_hook_list",
    "/v1/hooks/center",
    "List the aggregator's own hooks, and the points at which they run.",
    HookList,
)
HOOK_RULES = read(
    "hook_rules",
    "/v1/hooks/rules",
    "Say who may sign bundles of hooks, and whether the fleet is strict.",
    model.HookRulesReply,
)
HOOK_KEY_ADD = act(
    "hook_key_add",
    "/v1/hooks/keys",
    "Let an Ed25519 key sign bundles of hooks.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    model.AddHookKey,
    model.HookRulesReply,
)
HOOK_KEY_REMOVE = act(
    "hook_key_remove",
    "/v1/hooks/keys/remove",
    "Let a key sign no more; what it has signed stays installed.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    model.RemoveHookKey,
    model.HookRulesReply,
)
HOOK_STRICT = act(
    "hook_strict",
    "/v1/hooks/strict",
    "Start what libvirt's schema dislikes after hooks, or do not.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    model.SetStrictHooks,
    model.HookRulesReply,
)
HOOK_INSTALL = act(
    "hook_install",
    "/v1/hooks/bundles",
    "Install a signed bundle of hooks on some nodes, or on all.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    model.InstallBundle,
    model.HookOutcomes,
    is_slow=True,
)
HOOK_REMOVE = act(
    "hook_remove",
    "/v1/hooks/bundles/remove",
    "Remove a bundle of hooks from some nodes, or from all.",
    ActionGroup.EDIT_FLEET,
    Object.FLEET,
    model.RemoveBundle,
    model.HookOutcomes,
    is_slow=True,
)

VERBS: tuple[Verb, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Verb)
)
