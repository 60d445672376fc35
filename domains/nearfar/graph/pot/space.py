"""What ``nearfar tune graph.pot`` searches: POT's own settings, then the base model's."""

from __future__ import annotations

from nearfar.tuning import Choice, Float, SearchSpace

SPACE = SearchSpace(
    {
        "kappa": Float(0.05, 0.6),
        "logit_scale": Choice(1.0, 10.0, "auto"),
        "compactness.mode": Choice("certified", "surrogate", "sampled"),
        "optim.lr": Float(2e-4, 5e-3, log=True),
        "temperature": Float(0.2, 1.0),
        "augment.drop_1": Float(0.1, 0.6),
        "augment.drop_2": Float(0.1, 0.6),
    }
)
