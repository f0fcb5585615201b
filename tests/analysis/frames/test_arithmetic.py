"""How a trial was computed is a column, and a line where that differs unasked."""

from analysis.frames.arithmetic import warning
from analysis.frames.trials import load_trials

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


def test_what_trials_were_asked_for_is_no_warning_and_what_they_were_not_is(run):
    for name, precision in {"a": "fp32", "b": "bf16", "c": "bf16"}.items():
        run.trial(name, seed=ord(name), config={"precision": precision})
        known = ON_CPU | {"precision": precision}
        run.start(name, arithmetic=known | ({"threads": 1} if name == "c" else {}))
        run.epoch(name, 1, 0.5)
        run.outcome(name, epochs=1)
        assert bool(warning(load_trials(run.directory))) is (name == "c")
