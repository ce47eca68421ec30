"""The verbs of hooks: which scripts there are, and what they would do."""

from node.model.hooks import HookList, HookTrial, TryHook
from node.model.verb import ActionGroup, Object, Verb

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

VERBS: tuple[Verb, ...] = (HOOK_LIST, HOOK_TRY)
