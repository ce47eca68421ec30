"""Pick rows of a list: those that match, in the order asked, one page."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from aggregator.rest import search
from aggregator.rest.search import Query, SearchField

R = TypeVar("R")


def rows(
    candidates: Iterable[R],
    query: Query,
    maximum: int | None,
    fields: Mapping[str, SearchField[R]],
    *,
    is_case_sensitive: bool = False,
) -> Iterator[R]:
    """Yield the page of the rows that match; lazily, unless they are sorted.

    Pages hold `maximum` rows; without one there is a single page.
    """
    matches = search.matcher(query, fields, is_case_sensitive=is_case_sensitive)
    key = search.sort_key(query, fields)
    found: Iterable[R] = filter(matches, candidates)
    if key is not None:
        found = sorted(found, key=key, reverse=query.is_descending)
    if maximum is None:
        return iter(found if query.page == 1 else ())
    start = (query.page - 1) * maximum
    return itertools.islice(found, start, start + maximum)
