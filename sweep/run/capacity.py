"""What this machine has for a launch, and the line that refuses one for want of it."""

from __future__ import annotations

from sweep.config import ResourcesConfig, SweepConfig
from sweep.plan.room import cores, this_machine
from trainers.errors import UserError
from trainers.hardware import card_bytes, gpu_count, host_bytes


def capacity_here(resources: ResourcesConfig) -> float:
    """Memory of this machine's largest card, or of the machine where trials take none, bytes; 0: it has no card."""
    return max(card_bytes(), default=0.0) if resources.gpu else float(host_bytes())


def check_resources(config: SweepConfig, serial: bool, address: str | None) -> None:
    """Where trials are to run there is what one asks for, as far as that is known before Ray is up.

    Args:
        config: the sweep.
        serial: in this process.
        address: of a Ray cluster, whose machines are not this one; None: of none.

    Raises:
        UserError: this machine has less, or the config names the GPU that Ray is to choose.
    """
    if not serial and config.trial.device.startswith("cuda:"):
        raise UserError(
            f"trial.device: must be auto, cpu or cuda, got {config.trial.device!r}: "
            "Ray chooses the GPU of each trial; set trial.device=auto"
        )
    if address is None and config.resources.gpu == "auto" and not gpu_count():
        raise UserError(
            "resources.gpu: auto needs a GPU, whose memory it shares out, and torch sees none on this machine; "
            "set resources.gpu=0 to train on the CPU"
        )
    if address is None and config.resources.most_gpu > gpu_count():
        raise UserError(
            f"resources.gpu: a trial asks for {config.resources.most_gpu:g} GPU, and this machine has "
            f"{gpu_count()}; set resources.gpu=0 to train on the CPU"
        )
    if address is None and not serial and config.resources.cpu > (here := cores()):
        raise UserError(
            f"resources.cpu: a trial asks for {config.resources.cpu:g} CPU, and this machine has {here}; "
            f"set resources.cpu={here}"
        )
    if address is None and config.resources.workers > 1:
        _check_workers(config.resources, serial)


def refusal_here(config: SweepConfig) -> str:
    """That a launch on this machine would be refused for want of what a trial asks for, in words; empty: it is not."""
    if (why := refused_here(config, serial=False)) is None:
        return ""
    return f"a launch here is refused{'' if refused_here(config, serial=True) else ' without --serial'}: {why}"


def refused_here(config: SweepConfig, serial: bool) -> UserError | None:
    """Why `check_resources` refuses a launch on this machine; None: it does not."""
    try:
        check_resources(config, serial, address=None)
    except UserError as error:
        return error
    return None


def _check_workers(resources: ResourcesConfig, serial: bool) -> None:
    """This machine has room for all workers of a trial, as it has for one; cores are no bound to a serial launch."""
    (here,) = this_machine().nodes
    for name, amount in resources.asked.items():
        fit = int(here[name] / amount + 1e-9)
        if fit < resources.workers and not (serial and name == "CPU"):
            raise UserError(
                f"resources.workers: a trial asks for {resources.needed}, and this machine has {here[name]:g} {name}; "
                f"set resources.workers={fit}"
            )
