"""What ``nearfar tune timeseries.autotcl`` searches; ranges within those of the paper and its tuning program.

Form of the contrast and crops are ours.
"""

from __future__ import annotations

from nearfar.tuning import Choice, Float, SearchSpace

SPACE = SearchSpace(
    {
        "optim.lr": Float(1e-5, 1e-2, log=True),
        "augmenter.lr": Float(1e-5, 1e-2, log=True),
        "augmenter.target_keep": Float(0.3, 0.95),
        "augmenter.smoothness": Float(1e-3, 0.3, log=True),
        "augmenter.every": Choice(1, 2, 4),
        "augmenter.crops": Choice(False, True),
        "contrast.form": Choice("pooled", "hierarchical"),
        "contrast.local": Float(1e-3, 1.0, log=True),
        "contrast.temperature": Float(0.05, 1.0, log=True),
        "contrast.hidden_mask": Choice("binomial", "continuous", "all_true"),
    }
)
