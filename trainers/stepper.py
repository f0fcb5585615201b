"""Training steps one after another: the unchanged step, eager, or captured once and replayed.

A captured step holds its inputs' addresses and every Python number in it. So images and labels are copied to where the
step reads them, the learning rate is a tensor, as is what of an attack rises or is carried on
(`trainers.method.adversary`), and there is one captured step for each batch size, each method (AWP begins after its
warm-up) and each of DEAT's two averages in turn. What is drawn at random is the same to the bit: the generators belong
to the capture, which moves them on as the eager step does.

The first step of a kind is eager, which compiles, chooses kernels and makes what the optimizer keeps; the second is
captured; all others are replays. A network that draws itself, as dropout does, is trained eagerly, and so is one that
puts a new tensor in a buffer's place. Whatever fails on the way, the training goes on eagerly and says why. Where
trials share a process, each in a thread, first steps and captures are one thread's at a time, and a network that draws
itself is refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from trainers import process
from trainers.engine import Engine, Mode
from trainers.errors import UserError
from trainers.lock import locked
from trainers.memory import is_out_of_memory, reason
from trainers.method.step import Slots, Tally, training_step
from trainers.method.weights import keep_buffers, places
from trainers.randomness import default_generators, generator
from trainers.seeds import stable_seed

_log = logging.getLogger(__name__)


class Graph(Protocol):
    """A captured function."""

    def capture(self, function: Callable[[], None]) -> None:
        """Records what the function does on the device, without doing it."""

    def replay(self) -> None:
        """Does it."""


class CudaGraph:
    """A `torch.cuda.CUDAGraph` on a pool and a stream that its neighbours share."""

    def __init__(self, shared: _Shared, generators: list[torch.Generator]) -> None:
        self._graph, self._shared = torch.cuda.CUDAGraph(), shared
        for each in generators:
            self._graph.register_generator_state(each)

    def capture(self, function: Callable[[], None]) -> None:
        """Records what the function does. Other threads of the process go on: a trial of Tune's is one."""
        with torch.cuda.graph(
            self._graph, pool=self._shared.pool, stream=self._shared.stream, capture_error_mode="thread_local"
        ):
            function()

    def replay(self) -> None:
        """Launches it on the current stream."""
        self._graph.replay()


class _Shared:
    """What the captured steps of a trial share: they run one after another, so one pool of memory does for all."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.pool = torch.cuda.graph_pool_handle()


class Stepper:
    """The training steps of one model.

    Args:
        model: of the trial, on the engine's device.
        engine: says whether steps are captured.
        seed: of the trial; every epoch seeds the generators anew from it.
        graph: makes an empty captured step; None: CUDA's, where the engine captures.
    """

    def __init__(
        self, model: nn.Module, engine: Engine, seed: int, graph: Callable[[list[torch.Generator]], Graph] | None = None
    ) -> None:
        self.engine, self.reason = engine, ""
        """The engine that is in use, and why it is no longer the one that was asked for."""
        self.preparing = 0.0
        """Seconds that compiling and capturing took since `begin`."""
        self.tally = Tally.empty(engine.device)
        self._model, self._seed = model, seed
        self._shared = _Shared(engine.device) if engine.captures else None
        self._graph = graph or (partial(CudaGraph, self._shared) if self._shared else None)
        self._draws = [generator(engine.device, purpose) for purpose in _PURPOSES]
        self._inputs: dict[int, tuple[Tensor, Tensor]] = {}
        self._seen: set[Hashable] = set()
        """Kinds of steps of which one has run."""
        self._captured: dict[Hashable, Graph] = {}
        self._compiled: set[int] = set()
        """Methods whose passes are compiled, by `id`."""
        self._whole, self._epoch, self._updates = 0, 0, 0
        """Images of a whole batch, the epoch's number, and how many updates of it have begun."""
        self._batch: int | None = None
        """Images of the batch whose part is trained on."""

    @contextmanager
    def epoch(self, slots: Slots, number: int, batch_size: int) -> Iterator[None]:
        """A block of the steps of one epoch, counted from 0, on a stream of their own where they are captured.

        Args:
            slots: the method in this epoch; the same object as long as it is the same method.
            number: of the epoch.
            batch_size: of all batches but a short last one.
        """
        self._slots, self._whole, self.preparing = slots, batch_size, 0.0
        self._epoch, self._updates = number, 0
        self.tally.clear()
        for purpose, draws in zip(_PURPOSES, self._draws, strict=True):
            own = self.engine.workers.own_key if slots.own_objective and purpose == "mixing" else ()
            draws.manual_seed(stable_seed(self._seed, number, purpose, *own))
        stream = self._shared and self._shared.stream
        with self._alongside(stream) if stream else nullcontext():
            yield

    @contextmanager
    def _alongside(self, stream: torch.cuda.Stream) -> Iterator[None]:
        outer = torch.cuda.current_stream(self.engine.device)
        stream.wait_stream(outer)
        with torch.cuda.stream(stream):
            yield
        outer.wait_stream(stream)

    def step(self, images: Tensor, labels: Tensor, batch: int | None = None) -> None:
        """One update.

        Args:
            images: (B, C, H, W) in [0, 1], fp32.
            labels: (B,), or probabilities (B, classes).
            batch: images of the batch of which these are the worker's part; none: all of them.

        Raises:
            UserError: the network draws at random itself, and trials share the process.
        """
        seen, kind, self._batch = self.tally.images, self._kind(len(labels)), batch
        self._updates += 1
        if self._graph is None:
            images = self.engine.images(images)
        else:
            images, labels = self._placed(images, labels)
        if kind not in self._seen:
            self._first(kind, images, labels)
        elif self._graph is None:
            self._eager(images, labels)
        else:
            self._replayed(kind, images, labels)
        self.tally.images = seen + len(labels)

    def _kind(self, size: int) -> Hashable:
        """What makes a captured step another one."""
        return size, id(self._slots), getattr(self._slots.optimizer, "parity", None)

    def _placed(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The batch where captured steps of its size read it."""
        size = len(labels)
        if size not in self._inputs:
            self._inputs[size] = self.engine.images(images).clone(), labels.clone()
        places = self._inputs[size]
        for place, given in zip(places, (images, labels), strict=True):
            place.copy_(given)
        return places

    def _replayed(self, kind: Hashable, images: Tensor, labels: Tensor) -> None:
        if graph := self._captured.get(kind):
            if finish := getattr(self._slots.optimizer, "replayed", None):
                finish()
        else:
            with process.alone:
                graph = self._capture(kind, images, labels)
        if graph is None:
            self._eager(images, labels)
        else:
            graph.replay()

    def _first(self, kind: Hashable, images: Tensor, labels: Tensor) -> None:
        """The first step of a kind, in which it shows whether the network draws from torch's own generator, or gives a
        buffer a new tensor, which a replay would not read."""
        with process.alone:
            before, there = self._global(), places(self._model)
            self._eager(images, labels)
            draws = not torch.equal(before, self._global())
        self._seen.add(kind)
        if draws and process.shared():
            raise UserError(f"model.name: draws at random in training, as dropout does; {process.WAY_OUT}")
        if draws and self._graph is not None:
            self._graph = None
            self._fall_back(self.engine.eager, "the network draws at random itself, as dropout does")
        moved = [name for module, name, buffer in there if module._buffers.get(name) is not buffer]
        if moved and self._graph is not None:
            self._graph = None
            self._fall_back(self.engine.eager, f"the network gives its buffer {moved[0]} a new tensor in each step")

    def _global(self) -> Tensor:
        """The state of torch's own generators, from which nothing of ours draws; on a GPU the CPU's too, by whose
        numbers a network may choose its layers."""
        device, host = self.engine.device, torch.get_rng_state()
        return torch.cat([host, torch.cuda.get_rng_state(device)]) if device.type == "cuda" else host

    def _capture(self, kind: Hashable, images: Tensor, labels: Tensor) -> Graph | None:
        """The step, captured; None where that failed, everything being as before then."""
        assert self._graph is not None
        started, optimizer = time.perf_counter(), self._slots.optimizer
        parity, drawn = getattr(optimizer, "parity", None), [each.get_state() for each in self._draws]
        try:
            graph = self._graph(self._draws)
            graph.capture(lambda: self._run(images, labels))
        except (RuntimeError, NotImplementedError) as error:
            if is_out_of_memory(error):
                raise
            if parity != getattr(optimizer, "parity", None):
                optimizer.replayed()  # type: ignore[attr-defined]
            self._renew_generators()
            self._redraw(drawn)
            self._captured.clear()
            self._graph = None
            self._fall_back(self.engine.eager, "a step cannot be captured", error)
            return None
        self._captured[kind] = graph
        self.preparing += time.perf_counter() - started
        return graph

    def _renew_generators(self) -> None:
        """Those of a capture that broke off refuse to draw for good in torch 2.11, and torch's own is one of them."""
        self._draws = [generator(self.engine.device, purpose) for purpose in _PURPOSES]
        if self.engine.device.type == "cuda":
            own = torch.cuda.default_generators[torch.cuda.current_device()]
            own.graphsafe_set_state(own.clone_state())

    def _redraw(self, states: list[Tensor]) -> None:
        for each, state in zip(self._draws, states, strict=True):
            each.set_state(state)

    def _fall_back(self, engine: Engine, what: str, error: Exception | None = None) -> None:
        cause = getattr(error, "inner_exception", error)  # torch.compile's own first line names the backend alone
        self.reason = what if cause is None else f"{what}: {type(cause).__name__}: {reason(cause)}"
        _log.warning("%s; the trial goes on with engine %s", self.reason, engine.mode)
        self.engine = engine

    def _eager(self, images: Tensor, labels: Tensor) -> None:
        """The step, run operation by operation; the first of a method may compile."""
        compiles = self.engine.mode == "compile" and len(labels) == self._whole
        if not compiles or id(self._slots) in self._compiled:
            self._run(images, labels)
            return
        self._compiled.add(id(self._slots))
        started = time.perf_counter()
        with _first_on_this_machine():
            self._compile(images, labels)
        if self.engine.device.type == "cuda":
            torch.cuda.synchronize(self.engine.device)
        self.preparing += time.perf_counter() - started

    def _compile(self, images: Tensor, labels: Tensor) -> None:
        """The first step of a method: compiled while it runs; where that fails it is undone, and run without.

        A failure after the update, in a clean pass for batch norm, ends the trial: the update must not be made twice.
        """
        updated = list[bool]()
        watch = self._slots.optimizer.register_step_post_hook(lambda *_: updated.append(True))
        put_back, drawn = keep_buffers(self._model), [each.get_state() for each in self._draws]
        try:
            self._run(images, labels)
        except Exception as error:
            if updated or not type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton")):
                raise
            put_back()
            self._redraw(drawn)
            without: Mode = "graph" if self._graph else "eager"
            self._fall_back(replace(self.engine, mode=without), "a step cannot be compiled", error)
            self._run(images, labels)
        finally:
            watch.remove()

    def _run(self, images: Tensor, labels: Tensor) -> None:
        """The step itself. A short last batch is not worth compiling for."""
        engine = self.engine if len(labels) == self._whole else self.engine.eager
        slots = replace(self._slots, engine=engine)
        if slots.own_optimizer and not engine.workers.alone:
            key = self._seed, self._epoch, "update", self._updates
            slots = replace(slots, alike=partial(default_generators, engine.device, *key))
        attacking, mixing = self._draws
        training_step(self._model, slots, images, labels, attacking, mixing, self.tally, self._batch)


@contextmanager
def _first_on_this_machine() -> Iterator[None]:
    """A block that one process of a machine is in at a time: its neighbours find what it compiled in torch's cache."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # whose import takes a while

    with ExitStack() as held:
        with suppress(OSError):  # a folder that cannot be written to: each compiles for itself
            held.enter_context(locked(Path(cache_dir()) / "robustsweep.lock"))
        yield


#: What the two generators of a step are for, in the order of `training_step`.
_PURPOSES = ("attack", "mixing")
