"""Shares of a sweep's trials."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.share import Share
from trainers.errors import UserError

COUNTS = st.integers(1, 999)
IDS = st.sets(st.integers(0, 2**64 - 1).map("{:016x}".format))


@given(COUNTS, IDS)
def test_shares_of_one_number_part_the_trials_among_them(count: int, ids: set[str]) -> None:
    owners = [
        [share.index for share in (Share(i, count) for i in range(1, count + 1)) if share.has(one)] for one in ids
    ]
    assert all(len(each) == 1 for each in owners)


@given(COUNTS, st.data())
def test_a_share_is_what_its_text_says(count: int, data: st.DataObject) -> None:
    share = Share(data.draw(st.integers(1, count)), count)
    assert Share.of(str(share)) == share


def test_a_share_has_files_of_its_own() -> None:
    names = ["records.jsonl", "driver.log", "ray-20260101-000000"]
    assert [*map(Share(3, 12).named, names)] == ["records.3of12.jsonl", "driver.3of12.log", "ray-20260101-000000.3of12"]


@given(IDS)
def test_a_share_of_one_has_all(ids: set[str]) -> None:
    assert all(map(Share(1, 1).has, ids))


@pytest.mark.parametrize(
    "text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1.0/4", " 1/4", "1/4\n", "1of4", "01/4", "²/4"]
)
def test_what_is_no_share_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"--shard: must be i/N with 1 <= i <= N, such as 1/4, got '.*'; give") as error:
        Share.of(text)
    assert "\n" not in str(error.value)
