"""What ``nearfar tune calibration.<method>`` searches: the ranges of the paper, and what it gives no value for."""

from __future__ import annotations

from nearfar.tuning import Choice, Float, SearchSpace

# Clean labels are nowhere to select by: trials are compared on rows held out under their given labels.
TRIALS = {"validation": 0.2}

PLAIN = SearchSpace(
    {
        "optim.lr": Float(1e-3, 1e-1, log=True),
        "head_lr": Float(1e-2, 1.0, log=True),
        "optim.weight_decay": Float(1e-5, 1e-2, log=True),
        "mixup": Choice(0.0, 0.2, 1.0, 4.0),
    },
    trials=TRIALS,
)
SPACE = SearchSpace(
    {
        "beta": Float(0.05, 2.0, log=True),
        "mixup": Choice(0.2, 1.0, 4.0),
        "gaussians.gamma": Float(0.0, 0.5),
        "gaussians.alpha": Float(1e-3, 1.0, log=True),
        "gaussians.ridge": Choice("ones", "eye"),
        "gaussians.weighting": Choice("paper", "inverse", "uniform"),
        "gaussians.outlier": Choice("none", "lof", "knn"),
        "gaussians.keep": Float(0.4, 0.9),
        "gaussians.draws": Choice("equal", "fill"),
        "gaussians.lr": Float(1e-4, 1e-1, log=True),
    },
    trials=TRIALS,
)
