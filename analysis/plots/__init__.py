"""Pictures, a figure a file: its numbers, its drawing, its place among the figures.

plan             what a figure or a table is: its numbers, its drawing, the trials behind it, what it needs
style            what all share: colours, markers, panels, legends
ticks            logarithmic axes: which values they name, and marks of one value side by side
page             what a picture is made for: its width, its letters, its names
setting          on which data, and under which attack, a figure's accuracies are
accuracy_lr      accuracy against the learning rate
accuracy_ratio   accuracy against learning rate / batch size, with the line and its band
accuracy_epoch   accuracy along the training
surface          mean accuracy on a grid of two hyperparameters, diverged cells kept
methods          the dot plot of methods
ratio            the pictures of `sweep ratio`
robustness_radius  accuracy against the attack's radius
importance       a bar a hyperparameter
pareto           the front of several objectives
proxies          how well each epoch orders the points
dynamics         curvature, gradient noise and straight lines along a run
"""
