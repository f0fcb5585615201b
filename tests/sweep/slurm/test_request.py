"""What is asked of Slurm, and whether `resources` agree with it."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.config import SweepConfig
from sweep.slurm.request import Request, agreement, amounts, check_words, gpus_of
from trainers.errors import UserError


def sweep(most: int | None = None, **resources: Any) -> SweepConfig:
    return SweepConfig.model_validate(
        {"name": "s", "space": {"epochs": [1, 2]}, "resources": resources, "max_concurrent": most}
    )


def asked(**values: Any) -> Request:
    return Request(**{"name": "s", "cpus": 1} | values)


@pytest.mark.parametrize(
    ("most", "resources", "nodes", "given", "expected"),
    [
        (None, {}, 1, (None, None), (1, 0)),
        (6, {"cpu": 2}, 1, (None, None), (12, 0)),
        (6, {"cpu": 2}, 4, (None, None), (4, 0)),  # two on each node, of six
        (None, {"cpu": 3, "gpu": 1}, 1, (None, None), (3, 1)),
        (None, {"cpu": 3, "gpu": 1}, 1, (None, 4), (12, 4)),
        (None, {"cpu": 1, "gpu": 0.25}, 1, (None, None), (4, 1)),
        (6, {"cpu": 1, "gpu": 0.5}, 1, (None, None), (6, 3)),
        (3, {"cpu": 1, "gpu": 0.6}, 1, (None, None), (3, 3)),  # one on a card: none takes parts of two
        (None, {"cpu": 1, "gpu": 0.4}, 1, (None, 4), (8, 4)),
        (8, {"cpu": 2, "gpu": 1, "trials_per_process": 4}, 1, (None, None), (4, 2)),
        (None, {"cpu": 2, "gpu": "auto"}, 1, (None, None), (2, 1)),
        (None, {"cpu": 2, "gpu": "auto"}, 1, (16, None), (16, 1)),
        (None, {"cpu": 0.5}, 1, (None, None), (1, 0)),
        (None, {"cpu": 2, "workers": 3}, 1, (None, None), (6, 0)),
        (None, {"cpu": 2, "gpu": 1, "workers": 4}, 2, (None, None), (4, 2)),  # two workers on each node
        (3, {"cpu": 2, "gpu": "auto", "workers": 4}, 2, (None, None), (12, 6)),
        (None, {"cpu": 2, "gpu": 1, "workers": 2}, 1, (None, 4), (8, 4)),
    ],
)
def test_a_task_has_what_the_trials_take_that_run_side_by_side_on_a_node(
    most: int | None,
    resources: dict[str, Any],
    nodes: int,
    given: tuple[int | None, int | None],
    expected: tuple[int, int],
) -> None:
    config = sweep(most, **resources)
    cpus, gpus = amounts(config, nodes, *given)
    assert (cpus, gpus) == expected
    assert agreement(asked(cpus=cpus, gpus=gpus, nodes=nodes), config) == []  # what is asked by itself is all used


@pytest.mark.parametrize(
    ("resources", "values", "says"),
    [
        ({"gpu": 1}, {"gpus": 0}, "--gpus-per-task 0: a trial takes 1.0 GPU (resources.gpu); ask for some"),
        ({"gpu": "auto"}, {"gpus": 0}, "--gpus-per-task 0: a trial takes auto GPU (resources.gpu); ask for some"),
        ({}, {"gpus": 2}, "--gpus-per-task 2: trials take no GPU (resources.gpu is 0), and the job's would idle"),
        ({}, {"gpus": 1, "gres": "gpu"}, "--gres gpu: trials take no GPU"),
        (
            {"cpu": 2, "workers": 3},
            {"cpus": 5},
            "--cpus-per-task 5: a trial asks for 3 workers with 2 CPU each, and a job of 1 node holds 2 of them; ask "
            "for more, or --set resources.workers=2",
        ),
        (
            {"cpu": 1, "gpu": 1, "workers": 8},
            {"cpus": 8, "gpus": 2, "nodes": 3},
            "--gpus-per-task 2: a trial asks for 8 workers with 1 CPU and 1 GPU each, and a job of 3 nodes holds 6",
        ),
        ({"cpu": 4}, {"cpus": 2}, "--cpus-per-task 2: a trial takes 4 CPU (resources.cpu); ask for more, or --set"),
    ],
)
def test_a_job_that_no_trial_fits_or_whose_gpus_nobody_takes_is_refused(
    resources: dict[str, Any], values: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError) as error:
        agreement(asked(**values), sweep(**resources))
    assert str(error.value).startswith(says)


def test_what_idles_is_told_with_its_reason() -> None:
    assert agreement(asked(cpus=8), sweep(2)) == [
        "--cpus-per-task 8: trials use 2 of them at a time, for max_concurrent is 2"
    ]
    assert agreement(asked(cpus=8, gpus=4), sweep(None, cpu=4, gpu=1)) == [
        "--gpus-per-task 4: trials use 2 of them at a time, for resources.cpu is 4"
    ]
    assert agreement(asked(cpus=8, gpus=2), sweep(None, gpu=1)) == [
        "--cpus-per-task 8: trials use 2 of them at a time, for resources.gpu is 1"
    ]
    assert agreement(asked(cpus=5, gpus=5), sweep(None, gpu="auto", workers=2)) == [
        "--cpus-per-task 5: trials use 4 of them at a time, for resources.workers is 2",
        "--gpus-per-task 5: trials use 4 of them at a time, for resources.workers is 2",
    ]
    assert agreement(asked(cpus=8, gpus=2), sweep(None, gpu=0.6)) == [
        "--cpus-per-task 8: trials use 2 of them at a time, for resources.gpu is 0.6"
    ]
    assert agreement(asked(cpus=8, gpus=1), sweep(None, gpu="auto")) == []  # who knows how many fit a card


def test_options_of_sbatch_are_those_of_the_request() -> None:
    request = asked(cpus=4, gpus=2, nodes=3, time="1:00:00", partition="gpu", account="me", more=("--mem=32G", "-Cbig"))
    assert request.lines() == [
        "--job-name=s",
        "--nodes=3",
        "--ntasks-per-node=1",
        "--cpus-per-task=4",
        "--gpus-per-task=2",
        "--partition=gpu",
        "--account=me",
        "--time=1:00:00",
        "--output=s-%j.out",
        "--mem=32G",
        "-Cbig",
    ]
    array = asked(array=4, gres="gpu:a100:2", gpus=2).lines()
    assert {"--array=1-4", "--gres=gpu:a100:2", "--output=s-%A_%a.out"} <= set(array)
    assert "--gpus-per-task=2" not in array


@pytest.mark.parametrize("text", ["a b", "a\nscontrol shutdown", "a#b", "'a'", '"', "a\\b", "$(id)", "é", "", "a;b"])
@pytest.mark.parametrize("option", ["partition", "account", "gres", "time", "more"])
def test_no_text_that_sbatch_would_read_as_another_comes_into_a_script(option: str, text: str) -> None:
    value: Any = (f"--mem={text}",) if option == "more" else text
    if option == "more" and not text:
        value = ("",)
    with pytest.raises(UserError, match=f"^--{'sbatch' if option == 'more' else option} .*must be one word"):
        check_words(asked(**{option: value}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("--time=5", "the script has --time by itself; give --time"),
        ("-t5", "the script has -t by itself; give --time"),
        ("-N2", "the script has -N by itself; give --nodes"),
        ("--gpus=2", "the script has --gpus by itself; give --gpus-per-task"),
        ("--signal=USR2@30", "the script has --signal by itself; give --stop-before"),
        ("--no-requeue", "the script has --requeue by itself; edit the script"),
        ("--wrap=id", "the script has --wrap by itself; edit the script"),
        ("mem=3", "must be an option of sbatch, such as --sbatch=--mem=32G"),
    ],
)
def test_an_option_that_the_script_has_is_refused_with_the_one_that_sets_it(text: str, says: str) -> None:
    with pytest.raises(UserError, match=f"^--sbatch {text}: {says}"):
        check_words(asked(more=(text,)))
    check_words(asked(more=("--mem=32G", "--qos=long", "-Ca100", "--exclude=n[1-3,7]")))


@pytest.mark.parametrize("time", ["3", "2:01", "00:02:01", "1-0", "1-00:00", "1-00:00:00", "UNLIMITED", "infinite"])
def test_a_time_limit_is_said_as_sbatch_takes_it_and_leaves_time_to_run(time: str) -> None:
    check_words(asked(time=time))


@pytest.mark.parametrize(
    ("time", "says"),
    [("2", "is 120 s, and the job stops 60 s before"), ("00:01:59", "is 119 s"), ("soon", "must be minutes, hours")]
    + [(time, "must be minutes") for time in ("-1", "1-", "1:2:3:4", "1d", "1-2-3", "1.5", "1:100")],
)
def test_a_time_limit_that_is_none_or_too_short_is_refused(time: str, says: str) -> None:
    with pytest.raises(UserError, match=f"^--time {time}: {says}"):
        check_words(asked(time=time))


def test_the_gpus_of_a_gres_are_counted_and_another_kind_is_refused() -> None:
    counts = {"gpu": 1, "gpu:2": 2, "gpu:a100": 1, "gpu:a100:2": 2, "gpu:3g.20gb:4": 4, "gpu:tesla-v100_x:10": 10}
    for text, count in counts.items():
        check_words(asked(gres=text))
        assert gpus_of(text) == count
    for text in ("shard:4", "gpu:2,lscratch:100", "gpumem:16G", "gpu:", "gpu:a100:-1", "gpu:-1", "gpu:a100:2:1"):
        with pytest.raises(UserError, match=f"^--gres {text}: must be GPUs"):
            check_words(asked(gres=text))
