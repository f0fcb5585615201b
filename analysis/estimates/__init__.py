"""What trials say: each question a file, frame -> frozen values with intervals.

intervals             t tests and intervals, Holm, a line's band, standard errors with the noise pooled over methods
crossed               what the test images add to an error over seeds: one interval for both
ranges                what a metric can be: no interval says more
resampling            Pearson, Spearman and Kendall of many weighted resamples at once
correlations          correlations with bootstrap intervals
proxies               whether cheap settings put the points in the order of the full ones
partial_correlations  the same with the training accuracy held fixed
differences           two methods at equal hyperparameters: paired differences and their test
seed_table            one metric of several methods by seed: means and differences with their intervals
methods               each method at its own best cell against a baseline
slot_effects          what each choice in a slot does: objective, S2O, weights, optimizer, attack
evaluated             trials under the attacks of `sweep evaluate`: what to compare, and means over seeds
masking               whether gradients are masked: a verdict of each check
shift                 the c at which DEAT(lr) = PGD-AT(c lr)
designs               the trials as arrays, the models' designs, the tests between them
nested_models         lr / batch size and more than it: nested models, F-tests, held-out cells
smooth_surface        a Gaussian process over lr and batch size, and its error
sobol_indices         whose the variance is
importance            which hyperparameter matters, with an interval over seeds
evaluator             what it is asked for: the axes, and who says of given cells how much each matters
pareto                the front of several objectives, and how sure each cell's place on it is
images                accuracy by class, the worst class, where two attacks agree, curves over radii
theory_check          what was measured of the dynamics beside what theory says
"""
