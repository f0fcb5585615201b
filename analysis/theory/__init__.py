"""What mathematics says of training with SGD and DEAT near a minimum, where the loss is taken as its quadratic.

Closed forms and solves; `sweep theory` prints what they say of a sweep.
Every printed formula is tested against the recursion that is really run; where the two differ, the docstring gives
both. H, C: covariances of one sample's noise and of a mini-batch's gradient; A: the Hessian.

recursions         SGD, DEAT and PGD-AT as linear recursions, with their exact stationary covariance
sde                drift and diffusion of SGD and PGD-AT, as printed and to the drift's own order
stationary         stationary covariance of a diffusion (Lyapunov), and in closed form where A and H commute
deat               DEAT's noise ratios, stability limit, stationary variance and equivalent SGD
pac_bayes          Gaussian KL; the generalisation gap against lr / batch; the bound of the learning dynamics
learning_dynamics  posterior variance by eigen-direction: stationary, and propagated and injected after a decay
predictions        all of that for the settings of a sweep, each beside plain SGD: a frame in, a frame out
"""
