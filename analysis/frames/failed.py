"""Why trials failed, in a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from trainers.fields import plural
from trainers.visible import in_line

#: Characters of a reason; the records have it whole.
_REASON = 200


def failed_line(reasons: Mapping[str, str], run: str = "DIR") -> str:
    """How many trials failed, why the first did, of how many that is so, and what tells more; nothing of none.

    >>> failed_line({"3f2a": "OSError: no disk (logs/3f2a.log)", "90bc": "OSError: no disk (logs/90bc.log)"}, "runs/a")
    '2 trials failed: OSError: no disk; sweep show runs/a 3f2a says more, and where its log is'

    >>> failed_line({"3f2a": "OSError: no disk", "90bc": "KeyError: 'a'", "ab12": "OSError: no disk"})
    '3 trials failed, for 2 reasons, 2 for this: OSError: no disk; sweep show DIR 3f2a says more, and where its log is'

    Args:
        reasons: of the outcome of each, by id.
        run: as a word of a command.
    """
    if not reasons:
        return ""
    alike = Counter(reason.replace(f" (logs/{name}.log)", "") for name, reason in reasons.items())  # the log is its own
    first, why = next(iter(reasons)), next(iter(alike))
    part = "" if len(alike) == 1 else f", for {len(alike)} reasons, {alike[why]} for this"
    more = f"sweep show {run} {first} says more, and where its log is"
    return f"{plural(len(reasons), 'trial')} failed{part}: {in_line(why, _REASON)}; {more}"
