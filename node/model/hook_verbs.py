"""The verbs of hooks: which scripts there are, and what they would do."""

from node.model.hooks import (
    HookBundle,
    HookBundles,
    HookList,
    HookTrial,
    InstallHooks,
    ReceiveHooks,
    RemoveHooks,
    TryHook,
)
from node.model.verb import ActionGroup, Caller, Object, Verb

HOOK_LIST = Verb(
    "hook_list",
    "GET",
    "/v1/hooks",
    "List the scripts of hooks on this node, and the points that there are.",
    ActionGroup.READ,
    Object.NODE,
    HookList,
)
HOOK_TRY = Verb(
    "hook_try",
    "POST",
    "/v1/hooks/try",
    "Run a point's scripts about a VM and tell what they do; it stays as it is.",
    ActionGroup.MANIPULATE_HOST,
    Object.NODE,
    HookTrial,
    TryHook,
    is_slow=True,
)

HOOK_BUNDLES = Verb(
    "hook_bundles",
    "GET",
    "/v1/hooks/bundles",
    "List the bundles of hooks that are installed, and who signed them.",
    ActionGroup.READ,
    Object.NODE,
    HookBundles,
)
HOOK_INSTALL = Verb(
    "hook_install",
    "POST",
    "/v1/hooks/bundles",
    "Install a bundle of hooks, in place of one of that name.",
    ActionGroup.MANIPULATE_HOST,
    Object.NODE,
    HookBundle,
    InstallHooks,
    callers=frozenset({Caller.LOCAL}),
    is_slow=True,
)
HOOK_RECEIVE = Verb(
    "hook_receive",
    "POST",
    "/v1/hooks/bundles/receive",
    "Install a bundle of hooks that a key of the fleet has signed.",
    ActionGroup.MANIPULATE_HOST,
    Object.NODE,
    HookBundle,
    ReceiveHooks,
    callers=frozenset({Caller.AGGREGATOR}),
    is_slow=True,
)
HOOK_REMOVE = Verb(
    "hook_remove",
    "POST",
    "/v1/hooks/bundles/remove",
    "Remove a bundle of hooks.",
    ActionGroup.MANIPULATE_HOST,
    Object.NODE,
    HookBundles,
    RemoveHooks,
    is_slow=True,
)

VERBS: tuple[Verb, ...] = (
    HOOK_LIST,
    HOOK_TRY,
    HOOK_BUNDLES,
    HOOK_INSTALL,
    HOOK_RECEIVE,
    HOOK_REMOVE,
)
