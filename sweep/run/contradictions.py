"""Options of a launch that do not go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from trainers.errors import UserError

#: Why an option is not for a launch that decides a claim.
_WHOLE = "is for a launch of all trials; leave --decide out"


def refuse_contradictions(
    of_all: Mapping[str, Any],
    *,
    serial: bool,
    debug: bool,
    address: str | None,
    decide: str | None,
    hours: float | None,
) -> None:
    """Refuses a launch of which two options contradict each other.

    Args:
        of_all: by option what was given of --surrogate, --shard, --min-nodes, --again and --resume-pruned.
        serial: whether --serial was given.
        debug: whether --debug was.
        address: of --address.
        decide: of --decide.
        hours: of --budget-hours.

    Raises:
        UserError, click.UsageError: two of them do.
    """
    if debug and not serial:
        raise UserError("--debug: is of --serial, whose trials then run in this very process; give both, or neither")
    if decide is not None and hours is None:
        raise UserError("--decide: needs --budget-hours too: the trial hours that deciding a claim may take")
    if of_all["--surrogate"]:
        others = {**of_all, "--serial": serial, "--address": address, "--decide": decide, "--budget-hours": hours}
        for option in ("--address", "--decide", "--budget-hours", "--shard", "--min-nodes", "--serial"):
            if others[option]:
                raise UserError(f"--surrogate: trains nothing, so that {option} says nothing; leave one of the two out")
    if of_all["--shard"] is not None and decide is not None:
        raise click.UsageError("--decide: one launch looks at all results, seed after seed; leave --shard out")
    if of_all["--shard"] is not None and hours is not None:
        raise click.UsageError("--budget-hours: is of all trials of a launch; leave --shard out")
    if of_all["--min-nodes"] is not None and (address is None or decide is not None):
        raise click.UsageError("--min-nodes: is for a launch of all trials on a cluster; give --address, not --decide")
    for option in ("--again", "--resume-pruned"):
        if of_all[option] and decide is not None:
            raise click.UsageError(f"{option}: {_WHOLE}")
