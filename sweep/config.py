"""One YAML file -> a SweepConfig: checked, frozen, every default filled in."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_validator,
)

from sweep.axes import INERT_AXES, Axis, axis_order, integer_keys, leaf_keys, option_of
from sweep.objectives import SECONDS, Metric, Objective, metric_or_list
from sweep.stopping.config import StoppingConfig
from sweep.stopping.race_config import RaceConfig
from sweep.watchers import Notify, Trackers
from sweep.where import Constraints, constraint
from trainers.config import TrialConfig
from trainers.errors import suggestion, unknown_key, validated
from trainers.fields import Frozen, Number, PathText, Whole, parse_number
from trainers.visible import brief


def _as_number(value: Any) -> Any:
    """`1e-4`, which is text to YAML, as the number that it is; all else as it is."""
    try:
        return parse_number(value)
    except ValueError:
        return value


#: Seconds that an epoch may take at most before its trial counts as hung: three years.
LONGEST_EPOCH = 1e8

#: Optuna's samplers by name.
Sampler = Literal["auto", "tpe", "gp", "cmaes", "nsgaii", "qmc", "random"]


class SearchConfig(Frozen):
    """How points of the space are chosen."""

    name: Literal["grid", "one_at_a_time", "random", "quasi_random", "optuna"] = Field(
        "grid",
        description="grid: every combination. one_at_a_time: the first value of each choice, then each of their other "
        "values alone, at every combination of the grid axes. random: independent draws. "
        "quasi_random: a scrambled Sobol sequence, which fills the space evenly, best at 2, 4, 8, ... points. optuna: "
        "draws that learn.",
    )
    n_trials: Whole | None = Field(
        None,
        gt=0,
        description="random, quasi_random, optuna: points for each combination of the grid axes; each runs every seed.",
    )
    sampler: Sampler | None = Field(
        None,
        description="optuna: tpe: tree-structured Parzen estimators, for any space. gp: a Gaussian process, for few "
        "costly trials. cmaes: evolution of a covariance, for ranges and many trials. nsgaii: a genetic algorithm, for "
        "several objectives and many trials. qmc: a Sobol or Halton sequence. random. auto, none: what Optuna takes by "
        "itself, which is tpe.",
    )
    sampler_options: dict[str, Annotated[Any, BeforeValidator(_as_number)]] = Field(
        default_factory=dict,
        description="optuna: options of its sampler under Optuna's own names, such as {n_startup_trials: 20}.",
    )
    deterministic: bool = Field(
        False,
        description="optuna: points are asked for in batches, the next one once all of the last have ended: the same "
        "config and seed give the same points at any concurrency. Workers idle at the end of each batch.",
    )
    batch: Whole | None = Field(
        None,
        gt=0,
        description="deterministic: points of a batch, of each combination of the grid axes; each runs every seed. "
        "none: a generation of cmaes or nsgaii, or 10, which tpe and gp draw at random before they learn.",
    )
    seed: Whole = Field(0, ge=0, lt=2**63, description="Of the draws.")
    start_from: tuple[PathText, ...] = Field(
        (),
        max_length=1000,
        description="tpe, gp: directories of other runs, whose finished trials that lie in the space, and differ in "
        "nothing else, Optuna knows from the start. They are no trials of this sweep. A relaunch knows the same ones.",
    )
    points: tuple[dict[str, Any], ...] = Field(
        (),
        max_length=10_000,
        description="Points that run first, beside those that the search finds and n_trials counts, as mappings of "
        "axes to values. Of a grid axis that one leaves out every value is run; of another, one is drawn, by its "
        "place in this list: add further points at the end.",
    )

    @field_validator("name", mode="before")
    @classmethod
    def _no_sampler(cls, name: Any) -> Any:
        if name in get_args(Sampler)[1:-1]:  # random is a search too
            way_out = f"set search.name: optuna, search.sampler: {name}"
            raise ValueError(f"must be a search, and {name} is a sampler of one; {way_out}")
        return name

    @field_validator("start_from")
    @classmethod
    def _of_this_machine(cls, places: tuple[str, ...]) -> tuple[str, ...]:
        if address := next((place for place in places if "://" in place), None):
            raise ValueError(f"must be directories of this machine, got {address}; copy the run's records here")
        return places

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.start_from and (self.name != "optuna" or self.sampler not in (None, "auto", "tpe", "gp")):
            got = f"optuna's {self.sampler}" if self.name == "optuna" else self.name
            raise ValueError(f"start_from: is what tpe and gp learn from, got {got}; leave it out")
        listed = self.name in ("grid", "one_at_a_time")
        if listed and self.n_trials is not None:
            what = "a grid runs every combination" if self.name == "grid" else "one_at_a_time runs every listed value"
            raise ValueError(f"n_trials: {what}; leave it out, or set name: random")
        if not listed and self.n_trials is None:
            raise ValueError(f"n_trials: needed for {self.name}: how many points to draw")
        if self.name != "optuna" and (key := next((key for key in _OPTUNAS if getattr(self, key)), None)):
            raise ValueError(f"{key}: is Optuna's, and name is {self.name}; leave it out, or set name: optuna")
        if self.batch is not None and not self.deterministic:
            raise ValueError("batch: is of a deterministic search; set deterministic: true, or leave it out")
        return self


#: Keys of a search by Optuna alone.
_OPTUNAS = ("sampler", "sampler_options", "deterministic", "batch")


def _share(value: Any) -> Any:
    if value == "auto":
        return value
    try:
        number = float(parse_number(value))
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"must be auto or a number from 0 to 1, got {brief(value)}")
    return number


#: A share of a GPU; auto: by memory.
Share = Annotated[
    Literal["auto"] | float,
    BeforeValidator(_share),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "number", "minimum": 0, "maximum": 1}]}),
]


class ResourcesConfig(Frozen):
    """What one trial takes of a machine; a GPU may be shared: gpu: 0.5 runs two trials on each."""

    workers: Whole = Field(
        1,
        ge=1,
        le=1024,
        description="Processes that train one trial together, each with a part of every batch. cpu and gpu are then "
        "each worker's.",
    )
    cpu: Number = Field(1, gt=0, le=10_000, description="CPU cores, and torch threads (at least 1).")
    gpu: Share = Field(
        0.0,
        description="1, or the share of one, of whose memory it then gets no more. auto: what trials like it took "
        "before, and a tenth more; the first of them has a GPU of its own. Of several workers each has a whole one.",
    )
    trials_per_process: Whole = Field(
        1,
        ge=1,
        le=16,  # torch has 32 streams, of which a trial takes two
        description="Trials side by side in one process, each in a thread with a CUDA stream of its own: for small "
        "networks, which leave a GPU idle. cpu and gpu are then the process's.",
    )
    epoch_timeout: Number | None = Field(
        None,
        gt=0,
        le=LONGEST_EPOCH,
        description="Seconds that an epoch may take, loading and compiling included, before its trial counts as hung: "
        "it is failed then, and its process ended. none: 10 times the median of epochs that cost the same, at least "
        "600; an hour more for the first of a process; a day where nothing like it was measured.",
    )

    wait_minutes: Number | None = Field(
        None,
        ge=0,
        le=10_000,
        description="Minutes that a launch on a cluster waits for a node with room for a trial, where none has: for "
        "an autoscaler to bring one. none: 15, in which Ray itself expects a node to be up that it starts "
        "(AUTOSCALER_NODE_START_WAIT_S), where the cluster says that it autoscales; elsewhere 0.",
    )

    @property
    def most_gpu(self) -> float:
        """That a process, of several workers each, may take: of `auto` a whole one."""
        return 1.0 if self.gpu == "auto" else self.gpu

    @property
    def by_memory(self) -> bool:
        """Whether trials share GPUs by what they take of their memory."""
        return self.gpu == "auto" and self.workers == 1

    @property
    def asked(self) -> dict[str, float]:
        """What a process, of several workers each, needs a node to have, as Ray names it."""
        return {name: amount for name, amount in (("CPU", self.cpu), ("GPU", self.most_gpu)) if amount}

    @property
    def needed(self) -> str:
        """That of a process with all its workers, in words."""
        asked = " and ".join(f"{amount:g} {name}" for name, amount in self.asked.items())
        return asked if self.workers == 1 else f"{self.workers} workers with {asked} each"

    @property
    def unit(self) -> str:
        """What a process takes, in words."""
        one = "up to 1 GPU" if self.by_memory else f"{self.most_gpu:g} GPU" if self.gpu else f"{self.cpu:g} CPU"
        return one if self.workers == 1 else f"{self.workers} x {one}"

    @property
    def threads(self) -> int:
        """Of torch, for one trial."""
        return max(1, int(self.cpu / self.trials_per_process))

    def divided(self, at_once: int) -> tuple[int, int]:
        """How many processes run at most so many trials at once, and how many trials each of them has."""
        processes = -(-at_once // self.trials_per_process)
        return processes, at_once // processes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.most_gpu > 1:
            raise ValueError(
                f"gpu: must be <= 1, got {self.most_gpu:g}: a process uses one GPU, and further ones would idle; "
                "set resources.gpu=1: trials run side by side, or resources.workers=N: N processes train each"
            )
        if self.workers > 1:
            self._check_workers()
        if self.gpu == "auto" and self.trials_per_process > 1:
            raise ValueError(
                f"trials_per_process: must be 1 with gpu: auto, got {self.trials_per_process}: it is processes whose "
                "memory is measured and packed; set resources.trials_per_process=1, or give gpu a number"
            )
        return self

    def _check_workers(self) -> None:
        if self.trials_per_process > 1:
            raise ValueError(
                f"trials_per_process: must be 1 where a trial has {self.workers} workers, got "
                f"{self.trials_per_process}; set resources.trials_per_process=1, or resources.workers=1"
            )
        if 0 < self.most_gpu < 1:
            raise ValueError(
                f"gpu: must be 0 or 1 where a trial has {self.workers} workers, got {self.most_gpu:g}: NCCL joins no "
                "two processes on one card; set resources.gpu=1, or resources.workers=1"
            )


def _text(share: str | float) -> str:
    return share if isinstance(share, str) else f"{share:g}"


def _whole(key: str, axis: Axis) -> Axis:
    """The axis with whole values where its key takes no others.

    Raises:
        ValueError: its ends, or its step, are fractions, or it wants some.
    """
    if not axis.is_range or key not in integer_keys():
        return axis
    if axis.integer is False:
        raise ValueError(f"{key}: takes whole numbers alone; leave integer out")
    return validated(Axis, {**axis.model_dump(), "integer": True}, key)


def _as_axis(value: Any, build: Any) -> Axis:
    if not isinstance(value, (list, dict, Axis)):
        raise ValueError(f"must be a list of values, or a mapping such as {{uniform: [low, high]}}, got {brief(value)}")
    return build({"grid": value} if isinstance(value, list) else value)  # type: ignore[no-any-return]


class SweepConfig(Frozen):
    """A sweep: a question, the trial that everything starts from, and what is varied."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$", description="Names the run directory: runs/NAME.")
    question: str = Field("", description="What the sweep is to answer; shown with its plan.")
    trial: TrialConfig = Field(default_factory=TrialConfig, description="Defaults of every trial.")
    space: dict[str, Annotated[Axis, WrapValidator(_as_axis, json_schema_input_type=list[Any] | Axis)]] = Field(
        min_length=1, description="Dotted keys of the trial -> what they are varied over."
    )
    where: Constraints = Field(
        (),
        description="What must hold of every point, such as batch_size * optimizer.lr <= 10; one, or a list of which "
        "all must. Points at which it does not hold are not run.",
    )
    seeds: tuple[Annotated[Whole, Field(ge=0, lt=2**63)], ...] = Field(
        (0,), min_length=1, max_length=10_000, description="Each point runs each."
    )
    search: SearchConfig = Field(default_factory=lambda: SearchConfig())
    resources: ResourcesConfig = Field(default_factory=lambda: ResourcesConfig())
    max_concurrent: Whole | None = Field(
        None, gt=0, description="Most trials at once. none: as many as the resources allow."
    )
    metric: Annotated[
        Metric | Annotated[tuple[Objective, ...], Field(min_length=1)], BeforeValidator(metric_or_list)
    ] = Field(
        "val_robust",
        description="What Optuna optimises and best cells are chosen by: a name, or a list of several objectives, "
        "[{name: val_robust, mode: max}, {name: seconds, mode: min}], of which the first chooses the best cells.",
    )
    mode: Literal["max", "min"] = Field(
        "max", description="max for an accuracy, min for a loss; left out where metric is a list, which has its own."
    )
    stopping: StoppingConfig | None = Field(
        None, description="A rule that ends trials which do worse than others, early. none: all are trained to the end."
    )
    race: RaceConfig | None = Field(
        None, description="Points that are clearly worse over their first seeds get no more. none: each runs all seeds."
    )
    fail_fast: Whole | None = Field(
        None, ge=1, description="A sweep ends whose first so many trials fail alike. none: all are tried."
    )
    trackers: Trackers = Field(
        (),
        description="Programs that show the trials while they run, each fed by a process of its own: tensorboard, "
        "mlflow, wandb, trackio. None of them can harm the sweep.",
    )
    notify: Notify = Field(
        None, description='A command that is run when a launch ends, such as "mail -s {summary} me". none: nothing.'
    )
    code_folder: PathText | None = Field(
        None,
        description="Where your own code is looked for, beside the working folder. none: the folder of this file.",
    )
    code: dict[str, str] | None = Field(
        None,
        description="Of a submitted config: the hash of each source of your own code, by its name; code_folder then "
        "holds them. none: they are read as they are.",
    )

    @field_validator("seeds", mode="before")
    @classmethod
    def _listed(cls, seeds: Any) -> Any:
        many = 1 if seeds is None else seeds
        if isinstance(many, int) and not isinstance(many, bool) and 1 <= many <= 10:
            raise ValueError(f"must be a list, got {seeds}; write {list(range(many))}")
        return seeds

    @field_validator("race", "stopping", mode="before")
    @classmethod
    def _mapping(cls, value: Any, field: ValidationInfo) -> Any:
        if isinstance(value, int | float):  # true and false too
            example = "{alpha: 0.05}" if field.field_name == "race" else "{name: asha}"
            raise ValueError(f"must be a mapping such as {example}, or null for none, got {brief(value)}")
        return value

    @field_validator("space")
    @classmethod
    def _of_whole_keys(cls, space: dict[str, Axis]) -> dict[str, Axis]:
        return {key: _whole(key, axis) for key, axis in space.items()}

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What the sweep chooses by; the first, the primary one, chooses best cells, and is asked where one is."""
        return self.metric if isinstance(self.metric, tuple) else (Objective(name=self.metric, mode=self.mode),)

    @property
    def races(self) -> bool:
        """Whether points race over their seeds, and which of them run is not known beforehand."""
        return self.race is not None or (self.stopping is not None and self.stopping.races)

    @property
    def given(self) -> dict[str, Any]:
        """What is set of every trial, as plain values; the rest is its preset's, or the default.

        Where batch norm is each worker's own, their number is a part of what a trial is.
        """
        given = self.trial.model_dump(exclude_unset=True)
        local = self.trial.batch_norm == "local" or "batch_norm" in self.space
        return given | {"workers": self.resources.workers} if local and self.resources.workers > 1 else given

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: each once, got {list(self.seeds)}")
        if isinstance(self.metric, tuple) and "mode" in self.model_fields_set:
            raise ValueError("mode: stands beside each name where metric is a list; leave it out here")
        primary = self.objectives[0]
        if self.search.deterministic and any(one.name == SECONDS for one in self.objectives):
            raise ValueError("search.deterministic: seconds differ each time, and with them the points; leave one out")
        if self.search.name == "optuna" and "val" not in self.trial.evaluation.splits:
            raise ValueError(f"metric: optuna needs {primary.name}; put val into trial.evaluation.splits")
        if self.stopping is not None and "val" not in self.trial.evaluation.splits:
            raise ValueError("stopping: compares validation metrics; put val into trial.evaluation.splits")
        _check_race(self)
        if self.trial.device != "auto" and self.trial.device.startswith("cuda") != bool(self.resources.gpu):
            needed, got = "> 0" if self.resources.gpu == 0 else "0", _text(self.resources.gpu)
            raise ValueError(
                f"resources.gpu: must be {needed} for trial.device: {self.trial.device}, got {got}; "
                "or set trial.device=auto"
            )
        if self.resources.trials_per_process > 1:
            _check_shared(self)
        _check_workers(self)
        for key, axis in self.space.items():
            _check_axis(key, axis, self)
        if self.search.name == "one_at_a_time" and not any(axis.choice for axis in self.space.values()):
            raise ValueError(
                "space: one_at_a_time varies axes that are {choice: [...]}, and there is none; write the values so, "
                "the plain one first, or set search.name=grid"
            )
        axis_order(self.space)
        for number, point in enumerate(self.search.points):
            for key in point.keys() - self.space.keys():
                where = f"search.points.{number}.{key}: is no axis of space"
                raise ValueError(f"{where}; {suggestion(key, self.space)}")
        for number, text in enumerate(self.where):
            for key in constraint(text).keys:
                _check_named(key, f"where.{number}" if len(self.where) > 1 else "where", self)
        return self


def _check_race(config: SweepConfig) -> None:
    """Points race over several seeds, with the final metric of each."""
    if config.race is not None:
        key, least = "race", config.race.min_seeds
        if config.stopping is not None:
            raise ValueError(
                f"race: compares whole trials, over all seeds that a point has, and stopping: {config.stopping.name} "
                "leaves some out; leave one of the two out"
            )
        if "val" not in config.trial.evaluation.splits:
            raise ValueError("race: compares validation metrics; put val into trial.evaluation.splits")
    elif config.stopping is not None and config.stopping.races:
        key, least = f"stopping: {config.stopping.name}", max(2, config.stopping.options["n_startup_steps"])
    else:
        return
    if len(config.seeds) <= least:
        raise ValueError(
            f"{key}: a point has {least} seeds before it gets no more, so it needs at least {least + 1}, and seeds has "
            f"{len(config.seeds)}; list more, or leave {key.partition(':')[0]} out"
        )


def _check_shared(config: SweepConfig) -> None:
    """Trials of one process agree on the flags of its arithmetic, which are the process's."""
    way_out = "set resources.trials_per_process=1"
    precision = config.space.get("precision")
    if "tf32" in (config.trial.precision, *(precision.extremes() if precision else ())):
        raise ValueError(f"trial.precision: must be fp32 or bf16 where trials share a process, got tf32; {way_out}")
    if "deterministic" in config.space:
        raise ValueError(f"space.deterministic: must be the same for trials that share a process; {way_out}")


def _check_workers(config: SweepConfig) -> None:
    """A trial's own count of workers is the sweep's, and they can share every batch that a range holds."""
    workers, own, axis = config.resources.workers, config.trial.workers, config.space.get("batch_size")
    if own not in (1, workers):
        raise ValueError(
            f"trial.workers: is filled in from resources.workers, which is {workers}, got {own}; leave it out, or set "
            f"resources.workers={own}"
        )
    if axis is None or not axis.is_range or workers == 1:
        return
    low, high = axis.extremes()
    if axis.loguniform or low % workers or (low < high and axis.apart % workers):
        raise ValueError(
            f"space.batch_size: has values that {workers} workers cannot share evenly; list values that {workers} "
            f"divides, or give uniform with step: {workers}, or set resources.workers=1"
        )


def _check_named(key: str, where: str, config: SweepConfig) -> None:
    """A key that a constraint reads is one in which points can differ."""
    if key in INERT_AXES:
        raise ValueError(f"{where}: {key} cannot be an axis, and so tells no point from another; leave it out")
    if key not in leaf_keys() and not option_of(key, config.trial, config.space):
        unknown = unknown_key(key, leaf_keys(), leaf_keys())
        if "." not in key and "did you mean" not in unknown:
            unknown = f"no key of the trial; text stands in quotes, such as '{key}'"
        raise ValueError(f"{where}: {key}: {unknown}")


def _check_axis(key: str, axis: Axis, config: SweepConfig) -> None:
    if key in INERT_AXES:
        raise ValueError(f"space.{key}: {INERT_AXES[key]}")
    for name, where in [(key, key), *((name, f"{key}.when.{name}") for name in axis.when or {})]:
        if name not in leaf_keys() and not option_of(name, config.trial, config.space):
            raise ValueError(f"space.{where}: {unknown_key(name, leaf_keys(), leaf_keys())}")
    if config.search.name == "grid" and axis.grid is None:
        raise ValueError(
            f"space.{key}: search grid needs a list of values; give one, or set search.name to random or optuna"
        )
    if config.search.name == "one_at_a_time" and axis.is_range:
        raise ValueError(
            f"space.{key}: search one_at_a_time needs a list of values; give {{choice: [...]}}, or set search.name to "
            "random or optuna"
        )
