"""How a run in a store is known: its address, and its folder here; apart, so that others load nothing more."""

import re

#: A file in it, which names the run.
MARK = ".store.json"

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/")


def is_address(text: str) -> bool:
    """Whether a text is an address, such as s3://BUCKET/RUN, and not a path; it may be a wrong one."""
    return _SCHEME.match(text) is not None
