"""What is measured along a real run, so that a theory of its dynamics can be held against it.

loss          the adversarial loss of fixed images as a function of the weights
curvature     top eigenpairs of its Hessian by Lanczos, its trace by Hutchinson
noise         the covariance of mini-batch gradients: trace, projections, their kurtosis
lines         the loss along a direction, beside which analysis puts the quadratic
measurement   all of these at a trial's weights: a DynamicsRecord
"""
