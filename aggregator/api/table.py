"""Make rows of the table of verbs: what reads, and what becomes an order."""

from node.model.verbs import ActionGroup, Caller, Object, Query, Verb

USERS = frozenset({Caller.USER})


def read(name: str, path: str, meaning: str, reply: type, *query: Query) -> Verb:
    """Return a verb that only reads."""
    return Verb(
        name,
        "GET",
        path,
        meaning,
        ActionGroup.READ,
        Object.FLEET,
        reply,
        callers=USERS,
        query=query,
    )


def act(
    name: str,
    path: str,
    meaning: str,
    group: ActionGroup,
    on: Object,
    request: type,
    reply: type,
    status: int = 200,
    *,
    is_slow: bool = False,
) -> Verb:
    """Return a verb that changes something."""
    return Verb(
        name,
        "POST",
        path,
        meaning,
        group,
        on,
        reply,
        request,
        status,
        callers=USERS,
        is_slow=is_slow,
    )
