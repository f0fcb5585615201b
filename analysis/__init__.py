"""What the records say: frames, fits with intervals, surfaces and figures. Never torch, ray or optuna.

slots         a method: the choice in the four slots of the training step, and its name
arithmetic    how trials were computed: engine, versions, processor
frame         records.jsonl -> a row a trial, a row an epoch
cells         trials that differ by their seed alone: groups, means, the best one by validation
coefficients  Pearson, Spearman and Kendall of many weighted resamples at once
fits          correlations with bootstrap intervals
differences   two methods at equal hyperparameters: paired differences and their test
ranges        what a metric can be: no interval says more
blocks        methods x seeds: standard errors with the noise's variance pooled over methods
seeds         one metric of several methods by seed: means and differences with their intervals
methods       each method at its own best cell against a baseline; the effect of each slot
evaluations   attacks on trained networks: a row each, with Wilson's interval
lines         a least-squares line with its confidence band
surfaces      mean accuracy on a grid of two hyperparameters, diverged cells kept
plotted       the numbers behind each figure, frame -> frame
styles        how methods are told apart: colours, markers, panels
panels        one panel of each figure, numbers -> axes
dots          the dot plot of methods
figures       PNG and PDF with the CSV beside them
words         how columns are called in pictures and tables
method_tables the comparison of methods as text, CSV, JSON and Markdown
tables        the same values as text
published     the published study in the layout of a run
theory        closed forms and solves on a quadratic risk, tested against the recursions themselves
budgets       trials that were trained as long, on the same images: the only ones that are compared
ratio_models  lr / batch size and more than it: nested models, F-tests, held-out cells
ratio_layouts the trials as arrays, the models' designs, the tests between them
mixed         seeds as random intercepts
partial       correlation with the training accuracy held fixed
smooth        a Gaussian process over lr and batch size, its error and its direction
decomposition whose the variance is: Sobol's indices
ratio_tables, ratio_panels, ratio_plans   these as text and as figures
evidence      an estimate and how far off it may be: what every verdict is read from
sequential    intervals that hold however many seeds one looks at
claim_study, claim_blocks, claim_effects, claims, claim_tables   the ledger: trials, what effects are made of, a number
              a claim, verdicts, text
plans         what a figure or a table is: its numbers, its drawing, what it needs
shift         the c at which DEAT(lr) = PGD-AT(c lr)
paper         the numbers of the paper's figures, in any study and in two beside each other
paper_tables  the same of its tables; paper_text: as Markdown and LaTeX
paper_panels  its figures drawn; paper_plans: what of it there is
uses          which trials each figure and table is made of
manifest      what figures came from, and whether they would come out again
dynamics      what was measured along a run, and what the theory makes of it
dynamics_plotted, dynamics_panels, dynamics_plans   its figures: numbers, drawing, what there is
export        numbers as CSV, JSON and parquet, each given back exactly
settings      what trials were set to, as it is shown: presets, and the axes of every trial that reads them
views         one trial, and epochs row by row, as text
"""
