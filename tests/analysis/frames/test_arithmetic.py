"""How a trial was computed is a column, and a line where that differs unasked."""

from analysis.frames.arithmetic import warning
from analysis.frames.trials import axes, load_trials

ON_CPU = {
    "precision": "fp32",
    "engine": "eager",
    "deterministic": False,
    "torch": "2.15.0",
    "cudnn": None,
    "processor": "AVX512",
    "threads": 2,
}
ON_GPU = ON_CPU | {
    "precision": "bf16",
    "engine": "graph",
    "deterministic": True,
    "cudnn": 91300,
    "processor": "NVIDIA H100",
    "threads": None,
}


def test_trials_say_how_they_were_computed_and_one_line_warns_where_that_differs(run):
    for name, known in {"a": ON_CPU, "b": ON_CPU, "c": ON_GPU, "old": None}.items():
        run.trial(name, seed=ord(name[0]))
        run.start(name, **({} if known is None else {"arithmetic": known}))
        run.epoch(name, 1, 0.5)
        run.outcome(name, epochs=1)
        if name == "b":
            assert warning(load_trials(run.directory)) == ""
    trials = load_trials(run.directory)
    cpu = "fp32 eager, torch 2.15.0, AVX512, 2 threads"
    gpu = "bf16 graph deterministic, torch 2.15.0, cuDNN 91300, NVIDIA H100"
    assert trials["arithmetic"].tolist()[:3] == [cpu, cpu, gpu]
    assert trials["arithmetic"].isna().tolist() == [False, False, False, True]
    assert warning(trials) == (
        f"trials were computed in several ways: 2 in {cpu}; 1 in {gpu}. The same trial gives other numbers in each; in "
        "`--format csv` the column arithmetic tells them apart"
    )


def test_trials_of_one_worker_and_of_two_are_told_apart_by_a_column_and_in_the_warning(run):
    for name, workers in {"a": {}, "b": {"workers": 2}}.items():
        run.trial(name, seed=ord(name))
        run.start(name, arithmetic=ON_CPU, **workers)
        run.epoch(name, 1, 0.5)
        run.outcome(name, epochs=1)
    run.trial("c", seed=3)
    trials = load_trials(run.directory)
    assert trials["workers"].tolist() == [1, 2, 0]
    assert "1 in fp32 eager, 2 workers, torch 2.15.0, AVX512, 2 threads" in warning(trials)


def test_parts_of_a_batch_that_batch_norm_is_local_to_are_an_axis_and_no_workers(run):
    for name, parts in {"a": {}, "b": {"batch_norm": "local", "workers": 2}}.items():
        run.trial(name, config=parts)
        run.start(name, workers=2)
        run.epoch(name, 1, 0.5)
        run.outcome(name, epochs=1)
    trials = load_trials(run.directory)
    assert {"batch_norm", "batch_norm_parts"} <= set(axes(trials))
    assert (trials["batch_norm_parts"].tolist(), trials["workers"].tolist()) == ([1, 2], [2, 2])


def test_what_trials_were_asked_for_is_no_warning_and_what_they_were_not_is(run):
    for name, precision in {"a": "fp32", "b": "bf16", "c": "bf16"}.items():
        run.trial(name, seed=ord(name), config={"precision": precision})
        known = ON_CPU | {"precision": precision}
        run.start(name, arithmetic=known | ({"threads": 1} if name == "c" else {}))
        run.epoch(name, 1, 0.5)
        run.outcome(name, epochs=1)
        assert bool(warning(load_trials(run.directory))) is (name == "c")
