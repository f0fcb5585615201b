"""What `benchmarks/gpu.py` measures on a card: a module a question, a function a section.

setting      where a section runs, what it may take, and the one hand that writes results.jsonl
driver       sections as subprocesses, within their limits and the budget
trials       the trial that is timed, its data and its training; how a timing is made
arithmetic   env: versions, flags, errors against fp64, ceilings
gpu_tests    tests: the tests marked gpu
speed        usual, modes, networks: milliseconds of a step
starting     how long a trial takes to its first steps, cold and warm
equality     whether the engine's modes give the same numbers
standing     evaluation: what stands around the step
together     side_by_side: several trials on one card
profiling    profile: kernels, busy share, traces
study        study: real trials on real images
report       results.jsonl in words: the table at the end, and Markdown
"""
