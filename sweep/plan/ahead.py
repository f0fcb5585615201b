"""What a plan's trials will take: from the run's records, from steps made just now, or from what was counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sweep.own_code import in_own_process
from sweep.plan.cost import Cost, part_of
from sweep.plan.outlook import Outlook
from sweep.plan.plan import Plan
from sweep.plan.room import Room
from sweep.plan.shapes import Left, Shape, rows, words
from trainers.errors import UserError
from trainers.fields import plural


def outlook(plan: Plan, cost: Cost, room: Room, directory: Path, measure: bool, tell: Callable[[str], None]) -> Outlook:
    """The cost of a plan, each shape of trial by the best that is known of it.

    Args:
        plan: of the sweep.
        cost: as counted, of its trials that are left.
        room: where they will run.
        directory: of the run.
        measure: make steps of each shape that has no records of its own.
        tell: is told what is measured, and what cannot be, line by line.
    """
    known = plan.measured
    assert known is not None
    shapes = {one.shape: one for one in plan.to_run}
    seconds: dict[Shape, float] = {}
    for shape, one in shapes.items():
        took = known.epoch(shape) if one.known or known.epoch(shape) is not None else known.any()
        if took is not None and (known.has(shape) or not measure):
            seconds[shape] = took
    memory = {shape: held for shape in shapes if (held := known.memory(shape)) is not None}
    wanted = {shape: one for shape, one in shapes.items() if shape not in seconds} if measure else {}
    measured = _measured(plan, wanted, tell)
    by_shape = rows(plan.to_run, cost.each, seconds, memory, measured)
    decoded = {one.decodes.folder: one.decodes.size for one in plan.shapes.values() if one.decodes is not None}
    return Outlook(plan.config, plan.left, cost, by_shape, room, directory, decoded)


def _measured(plan: Plan, wanted: dict[Shape, Left], tell: Callable[[str], None]) -> dict[Shape, tuple[float, float]]:
    """Seconds of an epoch and bytes of each shape of which steps could be made, each in a process of its own."""
    resources, measured = plan.config.resources, {}
    if wanted:
        device = "the GPU" if resources.gpu else f"the CPU, {plural(resources.threads, 'thread')}"
        part = f", with the batches of one of {resources.workers} workers" if resources.workers > 1 else ""
        tell(f"measuring {plural(len(wanted), 'shape')} of trial on {device}{part}, some seconds each")
    names = words(list(wanted))
    for name, (shape, one) in zip(names, wanted.items(), strict=True):
        shape_of_data = plan.shapes[one.config.data]
        trial = part_of(one.config, shape_of_data, resources.workers)
        values = trial, shape_of_data, resources.threads, resources.most_gpu > 0
        try:
            seconds, memory = in_own_process(
                "trainers.probe:probe", *values, own=plan.own.values(), what="the measurement"
            )
        except UserError as error:
            tell(f"{name}: not measured, so its time is counted: {error}")
            continue
        share = resources.most_gpu / resources.trials_per_process if resources.gpu else 1.0
        seconds /= resources.workers
        measured[shape] = seconds / min(share, 1.0), memory
        tell(f"{name}: {seconds:.3g} s an epoch")
    return measured
