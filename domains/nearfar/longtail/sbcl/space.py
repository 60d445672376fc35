"""What ``nearfar tune longtail.<method>`` searches."""

from __future__ import annotations

from nearfar.tuning import Choice, Float, Int, SearchSpace

# Trials are compared on rows held out; the test part is never looked at.
TRIALS = {"validation": 0.2}

PLAIN = SearchSpace(
    {"optim.lr": Float(3e-4, 3e-2, log=True), "optim.weight_decay": Float(0.0, 1e-2)},
    trials=TRIALS,
)
CONTRAST = SearchSpace(
    {"optim.lr": Float(3e-4, 3e-2, log=True), "temperature": Float(0.05, 0.5, log=True)}, trials=TRIALS
)
SPACE = SearchSpace(
    {
        "optim.lr": Float(3e-4, 3e-2, log=True),
        "temperature": Float(0.05, 0.5, log=True),
        "beta": Float(0.0, 1.0),
        "subclasses.delta": Int(5, 50),
        "subclasses.every": Int(2, 20),
        "subclasses.rounding": Choice("floor", "ceil"),
        "warmup_epochs": Float(0, 20),
        "class_temperature.kind": Choice("paper", "code", "fixed"),
    },
    trials=TRIALS,
)
