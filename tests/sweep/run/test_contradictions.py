"""Options of a launch that do not go together are refused before anything is read."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from sweep.cli import main

DECIDES = ["--decide", "ratio", "--budget-hours", "1"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--debug"], "--debug: is of --serial, whose trials then run in this very process; give both, or neither"),
        (["--decide", "ratio"], "--decide: needs --budget-hours too: the trial hours that deciding a claim may take"),
        (["--shard", "1/2", *DECIDES], "--decide: one launch looks at all results, seed after seed; leave --shard out"),
        (["--shard", "1/2", "--budget-hours", "1"], "--budget-hours: is of all trials of a launch; leave --shard out"),
        (["--min-nodes", "2"], "--min-nodes: is for a launch of all trials on a cluster; give --address, not --decide"),
        (["--again", *DECIDES], "--again: is for a launch of all trials; leave --decide out"),
        (["--resume-pruned", *DECIDES], "--resume-pruned: is for a launch of all trials; leave --decide out"),
        (["--shard", "3/2"], "--shard: must be i/N with 1 <= i <= N, such as 1/4, got '3/2'; give such a share"),
    ],
)
def test_two_options_that_contradict_each_other_are_one_line(words: list[str], says: str) -> None:
    result = CliRunner().invoke(main, ["launch", "none.yaml", *words])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"sweep: {says}")
    assert result.stderr.count("\n") == 1
