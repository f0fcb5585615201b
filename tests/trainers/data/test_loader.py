"""The loader: what it gives, how far it is ahead, and how its thread ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from trainers.data.loader import AHEAD, Buffer, gathered
from trainers.errors import UserError

CPU = torch.device("cpu")
PARTS = torch.split(torch.randperm(45, generator=torch.Generator().manual_seed(0)), 4)


class Images:
    """Images that are their number, and remember each gather; `fail` is raised by the gather of that number."""

    shape = torch.Size((45, 3, 2, 2))

    def __init__(self, fail: dict[int, Exception] | None = None) -> None:
        self.taken: list[Tensor] = []
        self._fail = fail or {}

    def take(self, chosen: Tensor, out: Tensor) -> None:
        if error := self._fail.get(len(self.taken)):
            raise error
        out.copy_(chosen.to(torch.uint8)[:, None, None, None].expand_as(out))
        self.taken.append(chosen)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "loader"]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_it_gives_the_images_in_order_and_its_thread_ends() -> None:
    images = Images()
    for part, found in zip(PARTS, gathered(images, PARTS, CPU), strict=True):
        assert found.shape == (len(part), 3, 2, 2)
        assert torch.equal(found[:, 0, 0, 0].long(), part)
    assert not threads()
    assert list(gathered(images, [], CPU)) == []


def test_it_reads_while_a_gather_is_in_use_and_never_more_than_stated() -> None:
    images = Images()
    given = gathered(images, PARTS, CPU)
    for number in range(1, len(PARTS)):
        next(given)
        until(lambda: len(images.taken) == min(number + AHEAD, len(PARTS)))  # noqa: B023
        assert len(images.taken) <= number + AHEAD
    given.close()


def test_the_thread_ends_where_the_loop_is_left_or_raises() -> None:
    images = Images()
    given = gathered(images, PARTS, CPU)
    next(given)
    assert threads()
    given.close()
    assert not threads()
    assert len(images.taken) <= 1 + AHEAD

    def step(batches: Iterator[Tensor]) -> None:
        for _ in batches:
            raise RuntimeError("the step fails")

    with pytest.raises(RuntimeError, match="the step fails"):
        step(gathered(Images(), PARTS, CPU))
    until(lambda: not threads())


@pytest.mark.parametrize("at", [0, 1, 7])
def test_a_disk_that_cannot_be_read_is_one_line(at: int) -> None:
    given = gathered(Images({at: OSError(5, "Input/output error", "/data/a.npy")}), PARTS, CPU)
    for _ in range(at):
        next(given)
    with pytest.raises(UserError) as caught:
        next(given)
    assert str(caught.value) == "data.root: /data/a.npy: images cannot be read (Input/output error); look at the disk"
    assert not threads()


def test_any_other_error_of_the_thread_is_raised_as_it_is() -> None:
    for error in (UserError("data.root: too short"), ValueError("a fault")):
        with pytest.raises(type(error)) as caught:
            list(gathered(Images({2: error}), PARTS, CPU))
        assert caught.value is error


class FakeCard:
    """A card's memory and its two queues, in the order in which work is handed to them: nothing runs before it must.

    The copies are one queue, the trial's steps another. A copy waits for the steps that were handed over before the
    buffer was left; a step waits for its copy; the host waits for a copy only.
    """

    def __init__(self) -> None:
        self.copies: list[Callable[[], None]] = []
        self.steps: list[Callable[[], None]] = []
        self.copied = self.stepped = 0
        self.lock = threading.RLock()

    def run_copies(self, until: int) -> None:
        with self.lock:
            while self.copied < until:
                self.copied += 1
                self.copies[self.copied - 1]()

    def run_steps(self, until: int) -> None:
        with self.lock:
            while self.stepped < until:
                self.stepped += 1
                self.steps[self.stepped - 1]()


class FakeBuffer(Buffer):
    """A buffer whose copies and reads run as late as what waits for them allows: what is not waited for goes wrong."""

    def __init__(self, shape: Sequence[int], card: FakeCard) -> None:
        super().__init__(shape)
        self.memory = torch.zeros_like(self.host)
        self._card, self._copy, self._step = card, 0, 0

    def free(self) -> None:
        self._card.run_copies(self._copy)

    def send(self, count: int) -> None:
        step = self._step

        def copy() -> None:
            self._card.run_steps(step)
            self.memory[:count] = self.host[:count]

        with self._card.lock:
            self._card.copies.append(copy)
            self._copy = len(self._card.copies)

    def arrived(self, count: int) -> Tensor:
        copy = self._copy
        self._card.steps.append(lambda: self._card.run_copies(copy))
        return self.memory[:count]

    def left(self) -> None:
        self._step = len(self._card.steps)


def test_on_a_card_no_buffer_is_written_before_its_last_reader() -> None:
    card, seen = FakeCard(), []
    for found in gathered(Images(), PARTS, CPU, lambda shape: FakeBuffer(shape, card)):
        card.steps.append(lambda found=found: seen.append(found[:, 0, 0, 0].long().clone()))
    assert len(seen) < len(PARTS)  # the host is ahead of the card
    card.run_steps(len(card.steps))
    assert torch.equal(torch.cat(seen), torch.cat(PARTS))


@pytest.mark.parametrize("part", ["free", "left"])
def test_the_fake_card_shows_a_buffer_that_is_not_waited_for(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    card, seen = FakeCard(), []
    monkeypatch.setattr(FakeBuffer, part, lambda self: None)
    for found in gathered(Images(), PARTS, CPU, lambda shape: FakeBuffer(shape, card)):
        card.steps.append(lambda found=found: seen.append(found[:, 0, 0, 0].long().clone()))
    card.run_steps(len(card.steps))
    assert not torch.equal(torch.cat(seen), torch.cat(PARTS))


@pytest.mark.gpu
def test_images_arrive_on_a_card_in_order_while_it_works() -> None:
    device, seen = torch.device("cuda"), []
    busy = torch.randn(2048, 2048, device=device)
    for found in gathered(Images(), PARTS, device):
        busy = torch.tanh(busy @ busy)  # the host is far ahead of the card
        seen.append(found[:, 0, 0, 0].long())
    assert torch.equal(torch.cat(seen).cpu(), torch.cat(PARTS))
    assert not threads()
