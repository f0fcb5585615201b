"""Images that lie on the host or the disk, gathered by a thread ahead of the step, and copied to a card beside it.

    thread      gathers a few batches into pinned memory | copies them on a stream of its own | the next ones
    trial                                 trains on those before | trains on these, once their copy has ended

The copy waits on the card, not on the host: for the steps that still read what lies where it goes, and the steps for
it. On a CPU nothing is copied, and the disk is read while a step runs. Which images, and in what order, the caller
says; so batches are to the bit those of images in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from threading import Event, Thread

import torch
from torch import Tensor

from trainers.data.stored import Stored
from trainers.errors import UserError

#: Gathers that the thread may be ahead of the one in use: the next lies on the card already while another is read.
AHEAD = 2


class Buffer:
    """Where one gather goes: on a CPU, where it is read as well.

    Args:
        shape: (B, C, H, W), the largest.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.host = torch.empty(*shape, dtype=torch.uint8)

    def free(self) -> None:
        """Waits, on the thread, until `host` may be written again."""

    def send(self, count: int) -> None:
        """On the thread: the first so many images are there."""

    def arrived(self, count: int) -> Tensor:
        """(count, C, H, W) uint8 on the trial's device, for what the caller's stream does next."""
        return self.host[:count]

    def left(self) -> None:
        """What the caller's stream was given so far is the last that reads them."""


class CardBuffer(Buffer):
    """The same in pinned memory, and on a card.

    Args:
        shape: (B, C, H, W), the largest.
        stream: of the copies.
    """

    def __init__(self, shape: Sequence[int], stream: torch.cuda.Stream) -> None:
        self.host = torch.empty(*shape, dtype=torch.uint8, pin_memory=True)
        self._card = torch.empty(*shape, dtype=torch.uint8, device=stream.device)
        self._stream = stream
        self._copied, self._left = (torch.cuda.Event() for _ in range(2))  # type: ignore[no-untyped-call]
        self.left()

    def free(self) -> None:
        """Waits for the last copy from `host`."""
        self._copied.synchronize()

    def send(self, count: int) -> None:
        """Begins the copy, behind what still reads the card's memory."""
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._left)
            self._card[:count].copy_(self.host[:count], non_blocking=True)
            self._copied.record(self._stream)

    def arrived(self, count: int) -> Tensor:
        """The images on the card; the current stream waits for their copy, the host does not."""
        torch.cuda.current_stream(self._stream.device).wait_event(self._copied)
        return self._card[:count]

    def left(self) -> None:
        """Marks on the current stream where the images may be overwritten."""
        self._left.record(torch.cuda.current_stream(self._stream.device))


def read(images: Stored, chosen: Tensor | slice) -> Tensor:
    """Images of these numbers, (B, C, H, W) uint8, on the host: read now, by this thread.

    Raises:
        UserError: one cannot be read.
    """
    try:
        return images[chosen]
    except OSError as error:
        raise _told(error) from error


def gathered(
    images: Stored,
    parts: Sequence[Tensor],
    device: torch.device,
    buffer: Callable[[Sequence[int]], Buffer] | None = None,
) -> Iterator[Tensor]:
    """Images gather by gather, never more than `AHEAD` of them read before they are asked for.

    The thread ends with the iterator, however that ends: close it where it may not be read to its end.

    Args:
        images: what to read from.
        parts: which images each gather has, (B,) int64 on the host.
        device: that they are wanted on.
        buffer: makes the place of a gather, given its largest shape; None: a card's, or on a CPU plain memory.

    Yields:
        (B, C, H, W) uint8, until the next is asked for.

    Raises:
        UserError: images cannot be read.
    """
    if not parts:
        return
    shape = (max(map(len, parts)), *images.shape[1:])
    make, stream = buffer or Buffer, None
    if buffer is None and device.type == "cuda":
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        make = _on_stream(stream)
    free: SimpleQueue[Buffer | None] = SimpleQueue()
    full: SimpleQueue[Buffer | Exception] = SimpleQueue()
    ended = Event()
    for _ in range(min(AHEAD + 1, len(parts))):
        free.put(make(shape))
    thread = Thread(target=_gather, args=(images, parts, free, full, ended), name="loader", daemon=True)
    thread.start()
    try:
        for part in parts:
            if isinstance(filled := full.get(), Exception):
                raise _told(filled)
            yield filled.arrived(len(part))
            filled.left()
            free.put(filled)
    finally:
        ended.set()
        free.put(None)
        thread.join()
        if stream is not None:  # the buffers' memory goes back to the trial's stream, which others write on
            torch.cuda.current_stream(device).wait_stream(stream)


def _on_stream(stream: torch.cuda.Stream) -> Callable[[Sequence[int]], Buffer]:
    return lambda shape: CardBuffer(shape, stream)


def _gather(
    images: Stored,
    parts: Sequence[Tensor],
    free: SimpleQueue[Buffer | None],
    full: SimpleQueue[Buffer | Exception],
    ended: Event,
) -> None:
    """The thread: one gather after another, each into the next buffer that is free."""
    try:
        for part in parts:
            buffer = free.get()
            if buffer is None or ended.is_set():
                return
            buffer.free()
            images.take(part, buffer.host[: len(part)])
            buffer.send(len(part))
            full.put(buffer)
    except Exception as error:
        full.put(error)


def _told(error: Exception) -> Exception:
    """A failure to read as the user's to mend; any other as it is."""
    if not isinstance(error, OSError):
        return error
    where = f"{error.filename}: " if error.filename else ""
    told = UserError(f"data.root: {where}images cannot be read ({error.strerror or error}); look at the disk")
    told.__cause__ = error
    return told
