"""What each paper's code sets, as a table: the values under a preset's name, each with its source.

`trial: {preset: trades}` stands for all of TRADES's values; what is set beside it wins. Values are those with which the
code runs as published for CIFAR-10, its arguments' defaults unless said; a source is the argument or the function that
sets it, in the file named by the preset, unless another is. Values for other data are under `on`.

Left alone by every preset: what a `none` of the config stands for anyway (decoupled weight decay for DEAT, coupled for
SGD), which images are held out (all of these codes train on all 50,000 and choose on the test set), what is evaluated
how often, but where it is at the end alone, seed, precision (fp32 in all but FGSM-RS's), and augmentation, which is on
in all and off for digits.

Codes that count epochs from 1 (TRADES, MART, S2O) and lower the rate in epoch 75 do so after 74 epochs: the milestone
is 74. Codes that lower it at t = epoch + (i + 1) / steps (DEAT, Rice, AWP) do so with the last step of an epoch, a step
before the milestone's here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

PresetName = Literal["deat", "trades", "mart", "awp", "s2o", "avmixup", "rice2020", "fgsm_rs", "n_fgsm", "free", "fat"]

#: Dotted key of a trial -> its value there, and the source.
Values = Mapping[str, tuple[Any, str]]


@dataclass(frozen=True)
class Preset:
    """A paper's experiment."""

    paper: str
    code: str
    """GitHub repository, and the file that trains."""
    values: Values
    on: Mapping[str, Values] = field(default_factory=dict)
    """By data.name: what the code for those data sets otherwise."""
    lacks: tuple[str, ...] = ()
    """What of the code no key says."""


_BN = "trainers/method/batch_norm.py"

#: Of locuslab/robust_overfitting, train_cifar.py, from which AWP's code comes: there they have the same names.
_RICE: Values = {
    "data.name": ("cifar10", "main"),
    "data.padding": ("reflect", "utils.py, pad"),
    "model.name": ("preact_resnet18", "--model"),
    "model.normalize": (True, "normalize"),
    "model.moments": ("data", "utils.py, cifar10_mean"),
    "batch_size": (128, "--batch-size"),
    "epochs": (200, "--epochs"),
    "optimizer.name": ("sgd", "main"),
    "optimizer.lr": (0.1, "--lr-max"),
    "optimizer.momentum": (0.9, "main"),
    "optimizer.nesterov": (False, "main"),
    "optimizer.weight_decay": (5e-4, "main"),
    "schedule.name": ("piecewise", "--lr-schedule"),
    "schedule.milestones": ([100, 150], "lr_schedule, at 0.5 and 0.75 of the epochs"),
    "schedule.factor": (0.1, "lr_schedule"),
    "attack.norm": ("linf", "--norm"),
    "attack.radius": (8 / 255, "--epsilon"),
    "attack.step_size": (2 / 255, "--pgd-alpha"),
    "attack.steps": (10, "--attack-iters"),
    "attack.start": ("uniform", "attack_pgd"),
    "attack.batch_norm": ("train", "main, model.train()"),
    "objective.name": ("pgd_at", "main"),
    "objective.s2o.enabled": (False, "main"),
    "weights.name": ("none", "main"),
    "batch_norm_data": ("both", _BN),
    "clean_passes": (1, _BN),
    "evaluation.steps": (10, "--attack-iters"),
    "evaluation.restarts": (1, "--restarts"),
    "evaluation.step_size": (2 / 255, "--pgd-alpha"),
    "evaluation.radius": (8 / 255, "--epsilon"),
}

#: Of the one-step attacks' codes, of which the later came from the earlier.
_FAST: Values = {
    "data.name": ("cifar10", "main"),
    "data.padding": ("zero", "RandomCrop(32, padding=4) of the training transform"),
    "model.name": ("preact_resnet18", "main"),
    "model.normalize": (True, "Normalize of the training transform"),
    "model.moments": ("data", "Normalize of the training transform"),
    "batch_size": (128, "--batch-size"),
    "optimizer.name": ("sgd", "main"),
    "optimizer.lr": (0.2, "--lr-max"),
    "optimizer.momentum": (0.9, "--momentum"),
    "optimizer.nesterov": (False, "main"),
    "optimizer.weight_decay": (5e-4, "--weight-decay"),
    "schedule.name": ("one_cycle", "--lr-schedule cyclic"),
    "schedule.warmup": (0.5, "main, step_size_up"),
    "attack.norm": ("linf", "main"),
    "attack.radius": (8 / 255, "--epsilon"),
    "attack.steps": (1, "main"),
    "attack.batch_norm": ("train", "main, model.train()"),
    "objective.name": ("pgd_at", "main"),
    "objective.s2o.enabled": (False, "main"),
    "weights.name": ("none", "main"),
    "batch_norm_data": ("adversarial", _BN),
    "evaluation.steps": (50, "main, evaluate_pgd"),
    "evaluation.restarts": (10, "main, evaluate_pgd"),
    "evaluation.step_size": (2 / 255, "evaluate_pgd"),
    "evaluation.radius": (8 / 255, "--epsilon"),
}

PRESETS: dict[PresetName, Preset] = {
    "deat": Preset(
        "Sun, Sinha, Zhang, KDD 2023",
        "jsycsjh/DEAT, train_cifar_DEAT.py",
        {
            "data.name": ("cifar10", "main"),
            "data.padding": ("reflect", "utils.py, pad"),
            "model.name": ("preact_resnet18", "--model"),
            "model.normalize": (True, "normalize"),
            "model.moments": ("data", "utils.py, cifar10_mean"),
            "batch_size": (128, "--batch-size"),
            "epochs": (110, "--epochs"),
            "optimizer.name": ("deat", "--optimizer PNM; Algorithm 2"),
            "optimizer.lr": (0.1, "--lr-max"),
            "optimizer.weight_decay": (5e-4, "--weight_decay"),
            "optimizer.k1": (1.0, "main, PNM(betas=(0.9, 1.)), the second"),
            "optimizer.k2": (0.81, "the same, the first squared; the paper rounds to 0.8"),
            "schedule.name": ("piecewise", "--lr-schedule"),
            "schedule.milestones": ([100, 105], "lr_schedule; Table 1"),
            "schedule.factor": (0.1, "lr_schedule"),
            "attack.norm": ("linf", "--norm"),
            "attack.radius": (8 / 255, "--epsilon"),
            "attack.step_size": (2 / 255, "--pgd-alpha"),
            "attack.steps": (10, "--attack-iters"),
            "attack.start": ("uniform", "attack_pgd"),
            "attack.batch_norm": ("eval", "the flag --BNeval, as the paper says; without it train"),
            "objective.name": ("pgd_at", "main"),
            "objective.s2o.enabled": (False, "main"),
            "weights.name": ("none", "main"),
            "batch_norm_data": ("both", _BN),
            "clean_passes": (2, _BN),
            "evaluation.steps": (10, "--attack-iters"),
            "evaluation.restarts": (1, "--restarts"),
            "evaluation.step_size": (2 / 255, "--test-pgd-alpha"),
            "evaluation.radius": (8 / 255, "--test_epsilon"),
        },
    ),
    "trades": Preset(
        "Zhang et al., ICML 2019",
        "yaodongyu/TRADES, train_trades_cifar10.py",
        {
            "data.name": ("cifar10", "trainset"),
            "data.padding": ("zero", "transform_train, RandomCrop(32, padding=4)"),
            "model.name": ("wide_resnet34_10", "main, WideResNet()"),
            "model.normalize": (False, "transform_train"),
            "batch_size": (128, "--batch-size"),
            "epochs": (76, "--epochs"),
            "optimizer.name": ("sgd", "main"),
            "optimizer.lr": (0.1, "--lr"),
            "optimizer.momentum": (0.9, "--momentum"),
            "optimizer.nesterov": (False, "main"),
            "optimizer.weight_decay": (2e-4, "--weight-decay"),
            "schedule.name": ("piecewise", "adjust_learning_rate"),
            "schedule.milestones": ([74, 89, 99], "adjust_learning_rate, epochs 75, 90, 100 counted from 1"),
            "schedule.factor": (0.1, "adjust_learning_rate"),
            "attack.norm": ("linf", "trades.py, trades_loss(distance)"),
            "attack.radius": (0.031, "--epsilon"),
            "attack.step_size": (0.007, "--step-size"),
            "attack.steps": (10, "--num-steps"),
            "attack.start": ("normal", "trades.py, trades_loss"),
            "attack.batch_norm": ("eval", "trades.py, trades_loss"),
            "objective.name": ("trades", "train"),
            "objective.beta": (6.0, "--beta"),
            "objective.s2o.enabled": (False, "train"),
            "weights.name": ("none", "train"),
            "batch_norm_data": ("both", _BN),
            "clean_passes": (2, _BN),
            "evaluation.steps": (20, "pgd_attack_cifar10.py, --num-steps"),
            "evaluation.restarts": (1, "pgd_attack_cifar10.py"),
            "evaluation.step_size": (0.003, "pgd_attack_cifar10.py, --step-size"),
            "evaluation.radius": (0.031, "pgd_attack_cifar10.py, --epsilon"),
        },
    ),
    "mart": Preset(
        "Wang et al., ICLR 2020",
        "YisenWang/MART, train_resnet.py",
        {
            "data.name": ("cifar10", "trainset"),
            "data.padding": ("zero", "transform_train, RandomCrop(32, padding=4)"),
            "model.name": ("resnet18", "main, ResNet18()"),
            "model.normalize": (False, "transform_train"),
            "batch_size": (128, "--batch-size"),
            "epochs": (120, "--epochs"),
            "optimizer.name": ("sgd", "main"),
            "optimizer.lr": (0.01, "--lr"),
            "optimizer.momentum": (0.9, "--momentum"),
            "optimizer.nesterov": (False, "main"),
            "optimizer.weight_decay": (3.5e-3, "--weight-decay"),
            "schedule.name": ("piecewise", "adjust_learning_rate"),
            "schedule.milestones": ([74, 89, 99], "adjust_learning_rate, epochs 75, 90, 100 counted from 1"),
            "schedule.factor": (0.1, "adjust_learning_rate"),
            "attack.norm": ("linf", "mart.py, mart_loss(distance)"),
            "attack.radius": (0.031, "--epsilon"),
            "attack.step_size": (0.007, "--step-size"),
            "attack.steps": (10, "--num-steps"),
            "attack.start": ("normal", "mart.py, mart_loss"),
            "attack.batch_norm": ("eval", "mart.py, mart_loss"),
            "objective.name": ("mart", "train"),
            "objective.beta": (5.0, "--beta"),
            "objective.s2o.enabled": (False, "train"),
            "weights.name": ("none", "train"),
            "batch_norm_data": ("both", _BN),
            "clean_passes": (1, _BN),
            "evaluation.steps": (20, "_pgd_whitebox(num_steps)"),
            "evaluation.restarts": (1, "_pgd_whitebox"),
            "evaluation.step_size": (0.003, "_pgd_whitebox(step_size)"),
            "evaluation.radius": (0.031, "_pgd_whitebox(epsilon)"),
        },
        lacks=("1.0001 - p in the loss's logarithm, see trainers/method/objectives.py",),
    ),
    "awp": Preset(
        "Wu, Xia, Wang, NeurIPS 2020",
        "csdongxian/AWP, AT_AWP/train_cifar10.py",
        {
            **_RICE,
            "attack.batch_norm": ("train", "main, model.train() from the step before; eval in an epoch's first step"),
            "weights.name": ("awp", "main"),
            "weights.gamma": (0.01, "--awp-gamma"),
            "weights.warmup": (0, "--awp-warmup"),
            "evaluation.steps": (20, "--attack-iters-test"),
        },
        on={
            "svhn": {
                "data.name": ("svhn", "AT_AWP/train_svhn.py, main"),
                "data.augment": (False, "AT_AWP/train_svhn.py, train_transform"),
                "model.moments": ("half", "AT_AWP/train_svhn.py, svhn_mean"),
                "optimizer.lr": (0.01, "AT_AWP/train_svhn.py, --lr-max"),
                "attack.step_size": (1 / 255, "AT_AWP/train_svhn.py, --pgd-alpha"),
                "evaluation.step_size": (1 / 255, "AT_AWP/train_svhn.py, --pgd-alpha"),
                "weights.warmup": (5, "AT_AWP/train_svhn.py, --awp-warmup"),
            },
            "cifar100": {"data.name": ("cifar100", "AT_AWP/train_cifar100.py, main")},
        },
        lacks=(
            "the optimizer steps at the perturbed weights, see trainers/method/weights.py",
            "the attack's pass at its last images, in train mode",
        ),
    ),
    "s2o": Preset(
        "Jin et al., CVPR 2022",
        "Alexkael/S2O, CIFAR10_AT_S2O/train_S2O.py",
        {
            "data.name": ("cifar10", "trainset"),
            "data.padding": ("zero", "transform_train, RandomCrop(32, padding=4)"),
            "model.name": ("preact_resnet18", "main"),
            "model.normalize": (False, "transform_train"),
            "batch_size": (128, "--batch-size"),
            "epochs": (200, "--epochs"),
            "optimizer.name": ("sgd", "main"),
            "optimizer.lr": (0.1, "--lr"),
            "optimizer.momentum": (0.9, "--momentum"),
            "optimizer.nesterov": (False, "main"),
            "optimizer.weight_decay": (5e-4, "--weight-decay"),
            "schedule.name": ("piecewise", "adjust_learning_rate"),
            "schedule.milestones": ([99, 149], "adjust_learning_rate, epochs 100 and 150 counted from 1"),
            "schedule.factor": (0.1, "adjust_learning_rate"),
            "attack.norm": ("linf", "_pgd_whitebox"),
            "attack.radius": (8 / 255, "--epsilon"),
            "attack.step_size": (2 / 255, "--step-size"),
            "attack.steps": (10, "--num-steps"),
            "attack.start": ("uniform", "_pgd_whitebox"),
            "attack.batch_norm": ("eval", "_pgd_whitebox"),
            "objective.name": ("pgd_at", "train"),
            "objective.s2o.enabled": (True, "train"),
            "objective.s2o.weight": (0.1, "train"),
            "objective.s2o.rho": (0.8, "train"),
            "weights.name": ("none", "train"),
            "batch_norm_data": ("both", _BN),
            "clean_passes": (1, _BN),
            "evaluation.steps": (20, "eval_attack.py, --num-steps"),
            "evaluation.restarts": (1, "eval_attack.py"),
            "evaluation.step_size": (0.003, "eval_attack.py, --step-size; README"),
            "evaluation.radius": (0.031, "eval_attack.py, --epsilon; README"),
        },
        on={
            "svhn": {"optimizer.lr": (0.01, "--lr, its metavar: SVHN:0.01")},
            "cifar100": {"objective.s2o.rho": (0.98, "README, for TRADES-AWP+S2O")},
        },
        lacks=("a second pass of all images in train mode, by which batch norm's running statistics forget sooner",),
    ),
    "avmixup": Preset(
        "Lee, Lee, Yoon, CVPR 2020",
        "Saehyung-Lee/cifar10_challenge, config.json and train.py",
        {
            "data.name": ("cifar10", "cifar10_input.py"),
            "data.padding": ("zero", "cifar10_input.py, resize_image_with_crop_or_pad"),
            "model.name": ("wide_resnet34_10", "model.py: 32 layers, ten times as wide"),
            "model.normalize": (True, "model.py, per_image_standardization"),
            "model.moments": ("data", "the nearest there is"),
            "batch_size": (128, "training_batch_size"),
            "epochs": (205, "max_num_training_steps 80,000, at 390 an epoch"),
            "optimizer.name": ("sgd", "train.py, MomentumOptimizer"),
            "optimizer.lr": (0.1, "step_size_schedule"),
            "optimizer.momentum": (0.9, "momentum"),
            "optimizer.nesterov": (False, "train.py, MomentumOptimizer"),
            "optimizer.weight_decay": (2e-4, "weight_decay"),
            "schedule.name": ("piecewise", "step_size_schedule"),
            "schedule.milestones": ([103, 154], "step_size_schedule, steps 40,000 and 60,000, at 390 an epoch"),
            "schedule.factor": (0.1, "step_size_schedule"),
            "attack.norm": ("linf", "pgd_attack.py, LinfPGDAttack"),
            "attack.radius": (8 / 255, "epsilon"),
            "attack.step_size": (2 / 255, "step_size"),
            "attack.steps": (10, "num_steps"),
            "attack.start": ("uniform", "random_start"),
            "attack.batch_norm": ("batch", "train.py, is_training=True; update operations run with the update alone"),
            "objective.name": ("avmixup", "AVmixup"),
            "objective.vertex": (2.0, "gamma"),
            "objective.clean_label": (1.0, "lambda1"),
            "objective.vertex_label": (0.1, "lambda2"),
            "objective.s2o.enabled": (False, "train.py"),
            "weights.name": ("none", "train.py"),
            "batch_norm_data": ("adversarial", _BN),
            "evaluation.steps": (10, "num_steps"),
            "evaluation.restarts": (1, "eval.py"),
            "evaluation.step_size": (2 / 255, "step_size"),
            "evaluation.radius": (8 / 255, "epsilon"),
        },
        lacks=(
            "a WideResNet-32-10 with leaky ReLU, which standardises each image by itself",
            "crops from 2 pixels of padding",
            "weight decay on the convolutions' and the linear layer's kernels alone",
        ),
    ),
    "rice2020": Preset(
        "Rice, Wong, Kolter, ICML 2020",
        "locuslab/robust_overfitting, train_cifar.py",
        _RICE,
        on={
            "svhn": {
                "data.name": ("svhn", "train_svhn.py, main"),
                "data.augment": (False, "train_svhn.py, train_transform"),
                "model.moments": ("half", "train_svhn.py, svhn_mean"),
                "optimizer.lr": (0.01, "train_svhn.py, --lr-max"),
            },
            "cifar100": {"data.name": ("cifar100", "train_cifar100.py, main")},
        },
        lacks=("the attack's pass at its last images, in train mode",),
    ),
    "fgsm_rs": Preset(
        "Wong, Rice, Kolter, ICLR 2020",
        "locuslab/fast_adversarial, CIFAR10/train_fgsm.py",
        {
            **_FAST,
            "epochs": (15, "--epochs"),
            "attack.step_size": (10 / 255, "--alpha: 1.25 radii"),
            "attack.start": ("uniform", "--delta-init random"),
            "evaluation.every": (15, "main, after training"),
        },
        lacks=(
            "mixed precision by apex, --opt-level O2",
            "a start that reaches as high in each channel as in the first, by their normalisation",
        ),
    ),
    "n_fgsm": Preset(
        "de Jorge et al., NeurIPS 2022",
        "pdejorge/N-FGSM, train.py",
        {
            **_FAST,
            "epochs": (30, "--epochs"),
            "attack.step_size": (8 / 255, "--alpha: the radius"),
            "attack.start": ("uniform", "main, uniform_"),
            "attack.start_scale": (2, "--unif: k"),
            "attack.project": (False, "--clip -1"),
            "evaluation.every": (30, "main, after training"),
        },
        on={
            "svhn": {
                "data.name": ("svhn", "--dataset"),
                "optimizer.lr": (0.05, "main, args.lr_max"),
                "schedule.warmup": (0.4, "main, step_size_up"),
                "attack.radius_warmup": (5, "main, n_warmup_epochs"),
                "attack.step_size_warmup": (5, "main, n_warmup_epochs"),
            },
            "cifar100": {"data.name": ("cifar100", "--dataset")},
        },
        lacks=("on svhn, crops without flips",),
    ),
    "free": Preset(
        "Shafahi et al., NeurIPS 2019",
        "ashafahi/free_adv_train, config.py and free_train.py",
        {
            "data.name": ("cifar10", "--dataset"),
            "data.padding": ("zero", "cifar10_input.py, resize_image_with_crop_or_pad"),
            "model.name": ("wide_resnet34_10", "free_model.py: 32 layers, ten times as wide"),
            "model.normalize": (True, "free_model.py, per_image_standardization"),
            "model.moments": ("data", "the nearest there is"),
            "batch_size": (128, "--train_batch_size"),
            "epochs": (26, "--train_steps 80,000, of which 8 are on a batch, at 390 batches an epoch"),
            "optimizer.name": ("sgd", "free_train.py, MomentumOptimizer"),
            "optimizer.lr": (0.1, "--step_size_schedule"),
            "optimizer.momentum": (0.9, "--momentum"),
            "optimizer.nesterov": (False, "free_train.py, MomentumOptimizer"),
            "optimizer.weight_decay": (2e-4, "--weight_decay"),
            "schedule.name": ("piecewise", "--step_size_schedule"),
            "schedule.milestones": ([13, 19], "--step_size_schedule, steps 40,000 and 60,000, by the same count"),
            "schedule.factor": (0.1, "--step_size_schedule"),
            "attack.norm": ("linf", "free_train.py, clip_by_value"),
            "attack.radius": (8 / 255, "--epsilon"),
            "attack.step_size": (8 / 255, "free_train.py, new_pert"),
            "attack.steps": (1, "free_train.py, one an update"),
            "attack.start": ("clean", "free_model.py, zeros_initializer, once"),
            "attack.batch_norm": ("train", "free_model.py, the update's own pass"),
            "attack.replays": (8, "--replay_m"),
            "objective.name": ("pgd_at", "free_train.py"),
            "objective.s2o.enabled": (False, "free_train.py"),
            "weights.name": ("none", "free_train.py"),
            "batch_norm_data": ("adversarial", _BN),
            "evaluation.steps": (20, "--pgd_steps"),
            "evaluation.restarts": (1, "--num_restarts"),
            "evaluation.step_size": (2 / 255, "--step_size"),
            "evaluation.radius": (8 / 255, "--epsilon"),
        },
        on={"cifar100": {"data.name": ("cifar100", "--dataset")}},
        lacks=(
            "a WideResNet-32-10 with leaky ReLU, which standardises each image by itself",
            "crops from 2 pixels of padding",
            "weight decay on the convolutions' and the linear layer's kernels alone",
            "pixels that the perturbation would leave [0, 1] at do not move it",
        ),
    ),
    "fat": Preset(
        "Zhang et al., ICML 2020",
        "zjfheart/Friendly-Adversarial-Training, FAT.py",
        {
            "data.name": ("cifar10", "--dataset"),
            "data.padding": ("zero", "transform_train, RandomCrop(32, padding=4)"),
            "model.name": ("wide_resnet34_10", "--net WRN_madry, --depth 32: five blocks a group"),
            "model.normalize": (False, "transform_train"),
            "batch_size": (128, "train_loader"),
            "epochs": (120, "--epochs"),
            "optimizer.name": ("sgd", "optim.SGD"),
            "optimizer.lr": (0.1, "--lr"),
            "optimizer.momentum": (0.9, "--momentum"),
            "optimizer.nesterov": (False, "optim.SGD"),
            "optimizer.weight_decay": (2e-4, "--weight-decay"),
            "schedule.name": ("piecewise", "adjust_learning_rate"),
            "schedule.milestones": ([59, 89], "adjust_learning_rate, epochs 60 and 90 counted from 1"),
            "schedule.factor": (0.1, "adjust_learning_rate"),
            "attack.norm": ("linf", "earlystop.py"),
            "attack.radius": (0.031, "--epsilon"),
            "attack.step_size": (0.007, "--step-size"),
            "attack.steps": (10, "--num-steps"),
            "attack.start": ("uniform", "train, uniform_randominit"),
            "attack.batch_norm": ("eval", "earlystop.py, model.eval()"),
            "attack.tau": (0, "--tau"),
            "attack.tau_milestones": ([50, 90], "adjust_tau, after epochs 50 and 90 counted from 1"),
            "objective.name": ("pgd_at", "train"),
            "objective.s2o.enabled": (False, "train"),
            "weights.name": ("none", "train"),
            "batch_norm_data": ("adversarial", _BN),
            "evaluation.steps": (20, "eval_robust(perturb_steps)"),
            "evaluation.restarts": (1, "eval_robust"),
            "evaluation.step_size": (0.031 / 4, "eval_robust(step_size)"),
            "evaluation.radius": (0.031, "eval_robust(epsilon)"),
        },
        lacks=(
            "0.001 times standard normal noise at each step of the attack, --omega",
            "half the rate, not a tenth of it, from epoch 110 on",
            "images that stopped leave the attack's batch, which saves their passes",
        ),
    ),
}

#: A key that is set, to this value or at all, and what of a preset does not go with it: DEAT and AdamW have none of
#: SGD's momentum, a step of the evaluation's was published for a ball of one size, and `none` is where the codes start
#: in the l_2 ball.
_UNFIT: dict[tuple[str, str | None], tuple[str, ...]] = {
    ("optimizer.name", "deat"): ("optimizer.momentum", "optimizer.nesterov"),
    ("optimizer.name", "adamw"): ("optimizer.momentum", "optimizer.nesterov"),
    ("attack.radius", None): ("evaluation.radius", "evaluation.step_size"),
    ("attack.norm", "l2"): ("evaluation.radius", "evaluation.step_size", "attack.start"),
}


def beneath(given: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's values with those of the preset that they name where they set nothing: what is set wins.

    Args:
        given: nested, as in a config file; with no `preset`, or an unknown one, they come back as they are.

    >>> beneath({"preset": "mart", "optimizer": {"lr": 0.1}})["optimizer"]["weight_decay"]
    0.0035
    """
    values = dict(given)
    for key, value in published(given).items():
        _put(values, key.split("."), value)
    return values


def published(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the preset that a trial's values name sets on their data, by dotted key; nothing without a preset.

    What does not go with a key that is set is left out (`_UNFIT`): TRADES's momentum, where the optimizer is DEAT.
    """
    preset = PRESETS.get(given.get("preset"))  # type: ignore[arg-type]
    if preset is None:
        return {}
    values = preset.values | preset.on.get(_at(given, "data.name"), {})  # type: ignore[operator]
    unfit: set[str] = set()
    for (key, choice), keys in _UNFIT.items():
        chosen = _at(given, key)
        if chosen is not None and choice in (None, chosen):
            unfit.update(keys)
    return {key: value for key, (value, _) in values.items() if key not in unfit}


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Sets the value unless one is there; what is no mapping of keys is left for the config to refuse."""
    for part in path[:-1]:
        inner = values.get(part, {})
        if not isinstance(inner, Mapping):
            return
        values[part] = inner = dict(inner)
        values = inner
    values.setdefault(path[-1], value)


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, Mapping) else None
    return values
