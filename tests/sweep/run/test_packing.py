"""What is started next and with which share of a card: on cards of stated sizes, without Ray."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.run.packing import MARGIN, Packing, Peak, Start, memory_shape, room_text
from sweep.run.seats import Node, Room, Seat

GIB = 2**30


class Trial(NamedTuple):
    """A trial of a fake card: what it takes, bytes, and of which shape it is."""

    number: int
    shape: str
    memory: int


def packing(
    nodes: Iterable[Node], trials: Iterable[Trial], peaks: dict[str, Peak] | None = None, cpu: float = 1
) -> Packing[Trial]:
    left = iter(list(trials))
    return Packing(list(nodes), cpu, None, lambda: next(left, None), shape=lambda trial: trial.shape, peaks=peaks)


def all_now(given: Packing[Trial]) -> list[Start[Trial]]:
    return list(iter(given.next, None))


def of(shape: str, number: int, memory: int = GIB) -> list[Trial]:
    return [Trial(each, shape, memory) for each in range(number)]


CARD = Node(cpus=16, cards=1, memory=80 * GIB)


def test_the_first_of_a_shape_has_a_card_alone_and_the_others_as_much_as_it_took_and_a_tenth() -> None:
    wanted = packing([CARD], of("a", 9))
    first, *others = all_now(wanted)
    assert (first.gpu, first.alone, others) == (1.0, True, [])
    wanted.measured("a", Peak(20 * GIB, GIB))
    wanted.ended(first)
    shares = [(start.gpu, start.alone, start.cuda) for start in all_now(wanted)]
    assert shares == [(0.28, False, math.ceil(1.1 * GIB))] * 3  # 22 of 80 GiB, in hundredths of the card


def test_shapes_that_are_measured_share_a_card() -> None:
    peaks = {"a": Peak(40 * GIB, GIB), "b": Peak(9 * GIB, GIB)}
    started = all_now(packing([CARD], [*of("b", 9), *of("a", 2)], peaks))
    assert [start.trials[0].shape for start in started] == ["a", "b", "b", "b"]  # 0.55 + 3 * 0.13


def test_while_one_shape_is_measured_other_cards_run_what_they_can() -> None:
    two = Node(16, 2, 80 * GIB)
    started = all_now(packing([two], [*of("new", 3), *of("b", 9)], {"b": Peak(30 * GIB, GIB)}))
    assert [(start.trials[0].shape, start.gpu) for start in started] == [("new", 1.0), ("b", 0.42), ("b", 0.42)]


def test_no_card_idles_where_all_trials_are_of_one_shape_that_is_being_measured() -> None:
    assert [start.gpu for start in all_now(packing([Node(16, 4, 80 * GIB)], of("a", 9)))] == [1.0] * 4


def test_a_card_that_is_free_measures_before_it_packs() -> None:
    started = all_now(packing([CARD], [*of("b", 9), *of("new", 1)], {"b": Peak(GIB, GIB)}))
    assert [start.trials[0].shape for start in started] == ["new"]


def test_cores_limit_what_is_packed() -> None:
    assert len(all_now(packing([Node(3, 1, 80 * GIB)], of("a", 9), {"a": Peak(GIB, GIB)}))) == 3
    assert len(all_now(packing([Node(3, 1, 80 * GIB)], of("a", 9), {"a": Peak(GIB, GIB)}, cpu=2))) == 1


def test_of_cards_that_differ_the_smallest_sets_the_share_and_what_needs_more_waits_for_a_larger_one() -> None:
    small, large = Node(16, 1, 40 * GIB, "A"), Node(16, 1, 80 * GIB, "B")
    wanted = packing([small, large], of("a", 1), {"a": Peak(10 * GIB, GIB)})
    (start,) = all_now(wanted)
    assert (start.gpu, wanted.names(start.least)) == (0.28, {"A", "B"})
    (start,) = all_now(packing([small, large], of("a", 3), {"a": Peak(50 * GIB, GIB)}))
    assert (start.gpu, start.seats[0].node, wanted.names(start.least)) == (1.0, 1, {"B"})


def test_a_share_of_a_large_card_is_not_moved_to_a_smaller_one_that_joins() -> None:
    wanted = packing([Node(16, 1, 80 * GIB, "large")], of("a", 1), {"a": Peak(20 * GIB, GIB)})
    (start,) = all_now(wanted)
    wanted.join(Node(16, 1, 40 * GIB, "small"))
    assert (start.gpu, wanted.names(start.least)) == (0.28, {"large"})
    wanted.leave("large")
    assert (wanted.next(), wanted.room.seat(1, 1.0)) == (None, Seat(1, 0, 10_000, 10_000))
    wanted.join(Node(16, 1, 80 * GIB, "another"))
    assert wanted.next() is None
    assert wanted.room.seat(1, 1.0, 80 * GIB) is None  # it sits there


def test_what_no_card_here_is_large_enough_for_is_stranded_once_nothing_else_runs() -> None:
    small, large = Node(16, 1, 24 * GIB, "small"), Node(16, 1, 80 * GIB, "large")
    wanted = packing([large], of("a", 2), {"a": Peak(20 * GIB, GIB)})
    first, second = all_now(wanted)
    wanted.leave("large")
    assert wanted.stranded == 0  # without a node it is room itself that is missing
    wanted.join(small)
    assert (wanted.next(), wanted.stranded, wanted.more(0)) == (None, 80 * GIB, 1)
    wanted.put_back(second.trials[0])
    wanted.ended(second)
    (on_small,) = all_now(wanted)
    assert (on_small.gpu, wanted.stranded) == (0.92, 0)
    wanted.ended(on_small)
    assert wanted.stranded == 80 * GIB
    wanted.join(large)
    assert wanted.stranded == 0
    wanted.ended(first)
    assert (wanted.next(), wanted.done) == (None, True)


def test_what_runs_alone_on_a_largest_card_is_stranded_too_and_each_worker_needs_such_a_card() -> None:
    for workers in (1, 2):
        nodes = [Node(16, 1, size * GIB, str(number)) for number, size in enumerate((80, 80, 24))]
        trials = iter(of("a", 1))
        wanted = Packing(
            nodes, 1, 1.0, lambda trials=trials: next(trials, None), workers=workers, short={of("a", 1)[0]}
        )
        (start,) = all_now(wanted)
        assert (start.alone, start.least) == (True, 80 * GIB)
        for name in ("0", "1"):
            assert wanted.stranded == 0
            wanted.leave(name)
            if workers == 2:
                break
        wanted.next()
        assert wanted.stranded == 80 * GIB


def test_a_shape_that_took_more_than_any_card_has_is_told_of_and_tried() -> None:
    wanted = packing([CARD], of("a", 1), {"a": Peak(90 * GIB, GIB), "b": Peak(GIB, GIB)})
    assert list(wanted.too_large()) == ["a"]
    assert [start.gpu for start in all_now(wanted)] == [1.0]


def test_cards_of_unknown_size_are_not_shared() -> None:
    assert [start.gpu for start in all_now(packing([Node(16, 2)], of("a", 9), {"a": Peak(GIB, GIB)}))] == [1.0, 1.0]


def test_what_ran_out_of_memory_runs_once_more_after_all_others_alone() -> None:
    wanted = packing([CARD], of("a", 3), {"a": Peak(30 * GIB, GIB)})
    one, two = all_now(wanted)
    assert wanted.again(one.trials[0])
    wanted.ended(one)
    (three,) = all_now(wanted)
    wanted.ended(two)
    assert (wanted.next(), wanted.done) == (None, False)  # no whole card is free
    wanted.ended(three)
    last = wanted.next()
    assert last is not None
    assert (last.trials, last.gpu, last.alone) == (one.trials, 1.0, True)
    assert not wanted.again(one.trials[0])
    wanted.ended(last)
    assert (wanted.next(), wanted.done) == (None, True)


def test_what_ran_out_of_memory_and_stops_before_its_end_runs_alone_again() -> None:
    wanted = packing([CARD], of("a", 2), {"a": Peak(20 * GIB, GIB)})
    first, second = all_now(wanted)
    assert wanted.again(first.trials[0])
    wanted.ended(first)
    wanted.ended(second)
    (alone,) = all_now(wanted)
    wanted.put_back(alone.trials[0])
    wanted.ended(alone)
    (again,) = all_now(wanted)
    assert (again.trials, again.gpu, again.alone, again.cuda) == (first.trials, 1.0, True, None)


def test_on_cpus_it_runs_once_nothing_else_of_the_launch_does() -> None:
    left = iter(range(3))
    wanted = Packing([Node(2), Node(2)], 1, 0, lambda: next(left, None))
    starts = list(iter(wanted.next, None))
    assert [(start.alone, start.gpu) for start in starts] == [(False, 0)] * 3
    wanted.again(1)
    wanted.ended(starts[0])
    wanted.ended(starts[1])
    assert wanted.next() is None
    wanted.ended(starts[2])
    last = wanted.next()
    assert last is not None
    assert (last.trials, last.alone) == ((1,), True)


def test_what_ran_out_of_memory_in_an_earlier_launch_begins_at_the_end() -> None:
    left = iter(range(3))
    wanted = Packing([Node(2, 2, GIB)], 1, 0.5, lambda: next(left, None), short={0})
    order = []
    while not wanted.done:
        start = wanted.next()
        assert start is not None
        order.append((start.trials[0], start.gpu, start.alone))
        wanted.ended(start)
    assert order == [(1, 0.5, False), (2, 0.5, False), (0, 1.0, True)]


def test_a_search_that_learns_is_not_asked_for_more_than_has_room() -> None:
    asked = iter(range(1000))
    pulled: list[int] = []

    def pull() -> int:
        pulled.append(next(asked))
        return pulled[-1]

    wanted = Packing([CARD], 1, None, pull, shape=lambda trial: "a", peaks={"a": Peak(30 * GIB, GIB)}, listed=False)
    assert len(list(iter(wanted.next, None))) == len(pulled) == 2


def on_cpus(number: int, nodes: Iterable[Node], each: int = 1, limit: int | None = None) -> Packing[int]:
    left = iter(range(number))
    return Packing(list(nodes), 1, 0, lambda: next(left, None), each=each, limit=limit)


def test_a_node_that_joins_is_filled_and_what_ran_on_one_that_leaves_takes_its_place_before_anything_new() -> None:
    wanted = on_cpus(9, [Node(2, name="a")])
    assert len(all_now(wanted)) == 2
    wanted.join(Node(3, name="b"))
    on_b = all_now(wanted)
    assert [start.trials for start in on_b] == [(2,), (3,), (4,)]
    wanted.leave("b")  # its three run again once there is room for them
    wanted.join(Node(4, name="c"))
    assert [start.trials for start in all_now(wanted)] == [(5,)]
    for start in on_b:
        wanted.ended(start)
    assert [start.trials for start in all_now(wanted)] == [(6,), (7,), (8,)]


def test_what_ran_on_a_node_that_left_may_end_before_it_has_a_new_place() -> None:
    wanted = on_cpus(3, [Node(1, name="a"), Node(1, name="b")])
    first, second = all_now(wanted)
    wanted.leave("b")
    wanted.ended(second)
    assert wanted.next() is None
    wanted.ended(first)
    assert len(all_now(wanted)) == 1


def test_without_a_node_nothing_starts_and_what_is_left_starts_once_one_joins() -> None:
    wanted = packing([CARD._replace(name="a")], of("a", 2), {"a": Peak(50 * GIB, GIB)})
    (start,) = all_now(wanted)
    wanted.leave("a")
    assert (wanted.next(), wanted.done) == (None, False)
    wanted.join(CARD._replace(name="b"))
    assert wanted.next() is None  # the first has its place
    wanted.ended(start)
    assert len(all_now(wanted)) == 1


def test_the_share_of_a_card_follows_the_smallest_that_is_there_now() -> None:
    wanted = packing([CARD], of("a", 9), {"a": Peak(20 * GIB, GIB)})
    assert wanted.share("a") == 0.28
    wanted.join(Node(16, 1, 40 * GIB, name="small"))
    assert (wanted.smallest, wanted.share("a")) == (40 * GIB, 0.55)
    wanted.leave("small")
    assert wanted.share("a") == 0.28


def of_workers(
    number: int,
    nodes: Iterable[Node],
    workers: int,
    gpu: float = 0,
    limit: int | None = None,
    short: Iterable[int] = (),
) -> Packing[int]:
    """Trials that each have several workers."""
    left = iter(range(number))
    return Packing(list(nodes), 1, gpu, lambda: next(left, None), workers=workers, limit=limit, short=set(short))


def nodes_of(start: Start[int]) -> list[int]:
    return [seat.node for seat in start.seats]


def test_the_workers_of_a_trial_get_a_place_each_on_one_node_where_one_has_room_for_all() -> None:
    starts = all_now(of_workers(9, [Node(5), Node(3)], workers=3))
    assert [nodes_of(start) for start in starts] == [[1, 1, 1], [0, 0, 0]]  # and two places are left


def test_where_no_node_has_room_for_all_they_are_on_as_few_as_may_be() -> None:
    starts = all_now(of_workers(9, [Node(1), Node(2), Node(1), Node(2)], workers=3))
    assert [nodes_of(start) for start in starts] == [[1, 1, 0], [3, 3, 2]]


def test_each_worker_has_a_card_of_its_own() -> None:
    starts = all_now(of_workers(9, [Node(16, 2), Node(16, 3)], workers=2, gpu=1.0))
    cards = [(seat.node, seat.card) for start in starts for seat in start.seats]
    assert cards == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [(start.gpu, start.alone) for start in starts] == [(1.0, True)] * 2


def test_a_trial_takes_no_place_until_there_is_one_for_each_of_its_workers() -> None:
    wanted = of_workers(2, [Node(2, name="a")], workers=3)
    assert (wanted.next(), wanted.done) == (None, False)
    wanted.join(Node(1, name="b"))
    (start,) = all_now(wanted)
    assert nodes_of(start) == [0, 0, 1]
    wanted.ended(start)
    assert len(all_now(wanted)) == 1


def test_a_node_that_leaves_takes_the_other_places_of_its_trial_with_it() -> None:
    wanted = of_workers(3, [Node(2, name="a"), Node(2, name="b"), Node(2, name="c")], workers=3)
    first, second = all_now(wanted)
    assert [nodes_of(first), nodes_of(second)] == [[0, 0, 1], [2, 2, 1]]
    wanted.leave("c")  # the second trial's process ends, and goes on once there are three places
    assert wanted.next() is None
    assert sum(wanted.room._cpus.values()) == 10_000  # on b, which the second has let go of
    wanted.join(Node(2, name="d"))
    assert wanted.next() is None
    assert sum(wanted.room._cpus.values()) == 0
    wanted.ended(second)
    wanted.ended(first)
    (third,) = all_now(wanted)
    wanted.ended(third)
    assert (wanted.next(), wanted.done) == (None, True)
    assert sum(wanted.room._cpus.values()) == 60_000


def test_a_limit_is_of_trials_and_not_of_their_workers() -> None:
    assert len(all_now(of_workers(9, [Node(16)], workers=4, limit=3))) == 3


def test_what_ran_out_of_memory_runs_again_on_a_largest_card_for_each_worker() -> None:
    nodes = [Node(8, 1, 80 * GIB, "a"), Node(8, 2, 40 * GIB, "b"), Node(8, 2, 24 * GIB, "c")]
    wanted = of_workers(1, nodes, workers=2, gpu=1.0, short={0})
    assert wanted.largest == 40 * GIB  # two cards have so much, and one alone has more
    (start,) = all_now(wanted)
    assert (start.gpu, start.alone, start.least, nodes_of(start)) == (1.0, True, 40 * GIB, [1, 1])


def test_more_nodes_are_wanted_for_trials_and_not_for_each_of_their_workers() -> None:
    wanted = of_workers(9, [Node(3, name="a")], workers=2)
    assert len(all_now(wanted)) == 1
    assert wanted.more(waiting=5) == 5


@pytest.mark.parametrize(
    ("each", "limit", "expected"),
    [
        (1, 5, [1] * 5),
        (4, 8, [4, 4]),
        (4, 4, [4]),
        (4, 3, [3]),
        (4, 6, [3, 3]),
        (4, 5, [2, 2]),
        (2, 1, [1]),
        (4, 0, []),
        (4, None, [4] * 8),
    ],
)
def test_trials_are_spread_over_as_many_processes_as_they_need_and_never_more_at_once(
    each: int, limit: int | None, expected: list[int]
) -> None:
    assert [len(start.trials) for start in all_now(on_cpus(99, [Node(8)], each, limit))] == expected


def test_where_one_process_fits_it_has_as_many_trials_as_it_may() -> None:
    assert [len(start.trials) for start in all_now(on_cpus(99, [Node(1)], 4, 5))] == [4]


def test_a_limit_that_is_changed_holds_from_then_on_and_0_starts_nothing() -> None:
    wanted = on_cpus(9, [Node(8)], limit=3)
    running = all_now(wanted)
    assert len(running) == 3
    wanted.limit = 5
    running += all_now(wanted)
    assert len(running) == 5
    wanted.limit = 1
    for start in running[:4]:
        wanted.ended(start)
        assert wanted.next() is None
    wanted.limit = 0
    wanted.ended(running[4])
    assert (wanted.next(), wanted.done, wanted.idle) == (None, False, True)
    wanted.limit = None
    assert len(all_now(wanted)) == 4


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[Node], list[Trial], dict[str, Peak]]:
    sizes = st.sampled_from([None, 24 * GIB, 40 * GIB, 80 * GIB])
    nodes = draw(st.lists(st.builds(Node, st.integers(1, 6), st.integers(1, 3), sizes), min_size=1, max_size=3))
    shapes = {name: draw(st.integers(GIB // 10, 24 * GIB)) for name in "abcd"[: draw(st.integers(1, 4))]}
    kinds = draw(st.lists(st.sampled_from(sorted(shapes)), min_size=1, max_size=25))
    trials = [Trial(number, kind, shapes[kind]) for number, kind in enumerate(kinds)]
    known = draw(st.sets(st.sampled_from(sorted(shapes))))
    return nodes, trials, {name: Peak(shapes[name], 0) for name in known}


def idle(given: Packing[Trial], waiting: Iterable[Trial]) -> Iterator[Trial]:
    """Trials that wait though there is room for what they would ask for."""
    for trial in waiting:
        if given.room.seat(1, given.share(trial.shape)) is not None:
            yield trial


@settings(max_examples=60, deadline=None, derandomize=True)
@given(clusters(), st.data())
def test_whatever_ends_when_every_trial_runs_none_over_its_card_and_no_room_is_left_idle(
    cluster: tuple[list[Node], list[Trial], dict[str, Peak]], data: st.DataObject
) -> None:
    nodes, trials, peaks = cluster
    wanted = packing(nodes, trials, peaks)
    running: list[Start[Trial]] = []
    ran: Counter[Trial] = Counter()
    short = data.draw(st.sets(st.sampled_from(trials)), "run out of memory at first")
    left = set(trials)
    while not wanted.done:
        running += all_now(wanted)
        assert running, "nothing runs, and nothing is started: a deadlock"
        left -= {trial for start in running for trial in start.trials}
        assert not list(idle(wanted, left))
        taken: Counter[tuple[int, int | None]] = Counter()
        for start in running:
            (seat,) = start.seats
            place = seat.node, seat.card
            taken[place] += round(start.gpu * 100)
            memory = nodes[seat.node].memory
            if memory is not None and start.gpu < 1:
                assert start.trials[0].memory * (1 + MARGIN) <= start.gpu * memory * (1 + 1e-9)
            assert start.gpu <= 1
        assert max(taken.values()) <= 100
        assert all(nodes[n].cpus >= sum(s.seats[0].node == n for s in running) for n in range(len(nodes)))
        start = running.pop(data.draw(st.integers(0, len(running) - 1), "ends"))
        (trial,) = start.trials
        ran[trial] += 1
        if trial in short and ran[trial] == 1:
            wanted.again(trial)
        elif start.alone:
            wanted.measured(trial.shape, Peak(trial.memory, 0))
        wanted.ended(start)
    assert ran == {trial: 2 if trial in short else 1 for trial in trials}
    assert wanted.next() is None


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_whatever_nodes_join_and_leave_every_trial_runs_and_no_node_holds_more_than_it_has(
    seed: int, workers: int
) -> None:
    draw = random.Random(seed)
    wanted, number = of_workers(12, [Node(2, name=0)], workers), 1
    there = {0: 2}
    running: list[Start[int]] = []
    ran: list[int] = []
    while not wanted.done:
        what = draw.choice(["join", "leave", "end", "end", "end"])
        if what == "join" or not there:
            there[number] = draw.randint(1, 3)
            wanted.join(Node(there[number], name=number))
            number += 1
        elif what == "leave":
            wanted.leave(gone := draw.choice(sorted(there)))
            del there[gone]
        elif running:
            start = running.pop(draw.randrange(len(running)))
            ran += start.trials
            wanted.ended(start)
        before = len(running)
        running += all_now(wanted)
        assert len(running) <= max(before, sum(there.values()) // workers), "more was started than there is room for"
        free = sum(wanted.room._cpus.values()) // 10_000
        assert 0 <= free == sum(there.values()) - workers * (len(running) - len(wanted._moving))
        assert min(wanted.room._cpus.values(), default=0) >= 0
        assert not (free >= workers and wanted._moving), "what has lost its node waits beside room"
    assert sorted(ran) == list(range(12))


def test_so_many_fit_as_there_are_whatever_floats_make_of_the_shares() -> None:
    room = Room([Node(64, 1)])
    for _ in range(10):
        seat = room.seat(0.1, 0.1)
        assert seat is not None
        room.take(seat)
    assert room.seat(0.1, 0.01) is None


@pytest.mark.parametrize(
    ("outcome", "capacity", "again", "expected"),
    [
        ({"alone": False}, 80 * GIB, True, "it runs once more, alone, at the end of the launch"),
        ({"alone": True}, 80 * GIB, False, "alone on 80.0 GiB"),
        ({"alone": True}, None, False, "alone"),
        ({"alone": False}, 80 * GIB, False, "not alone: the next launch runs it again"),
    ],
)
def test_what_becomes_of_a_trial_that_ran_out_of_memory_is_said(
    outcome: dict[str, bool], capacity: int | None, again: bool, expected: str
) -> None:
    assert room_text(outcome, capacity, again) == expected


def test_a_shape_is_what_holds_as_much_memory() -> None:
    base = {"batch_size": 32, "model": {"name": "vgg16"}, "optimizer": {"name": "sgd", "momentum": 0.9, "lr": 0.1}}
    like = base | {"optimizer": {"name": "sgd", "momentum": 0.8, "lr": 0.3}, "seed": 3}
    assert memory_shape(like) == memory_shape(base)
    for other in ({"batch_size": 64}, {"model": {"name": "vit"}}, {"optimizer": {"name": "adamw", "lr": 0.1}}):
        assert memory_shape(base | other) != memory_shape(base)


def test_more_nodes_are_wanted_once_these_are_full_and_for_no_more_than_wait_or_may_run() -> None:
    trials = iter(range(99))
    given = Packing([Node(2, name="a")], 1, 0, lambda: next(trials, None), limit=6)
    assert given.more(waiting=50) == 0  # there is room
    first = given.next()
    given.next()
    assert first is not None
    assert [given.more(waiting) for waiting in (0, 3, 50)] == [0, 3, 4]
    given.limit = None
    assert given.more(waiting=50) == 50
    given.limit = 1  # lowered while two run
    assert given.more(waiting=50) == 0
    given.limit = 0  # paused
    assert given.more(waiting=50) == 0


def test_more_nodes_are_wanted_for_those_whose_node_has_left_too_and_for_several_trials_a_process() -> None:
    trials = iter(range(99))
    given = Packing([Node(1, name="a"), Node(1, name="b")], 1, 0, lambda: next(trials, None), each=4)
    given.next()
    given.next()
    assert given.more(waiting=9) == 3
    given.leave("b")
    assert given.more(waiting=9) == 4
