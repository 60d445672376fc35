"""What ``nearfar tune recsys.sasrec`` searches: what decides between under- and overfitting."""

from __future__ import annotations

from nearfar.tuning import Choice, Float, Int, SearchSpace

SPACE = SearchSpace(
    {
        "optim.lr": Float(3e-4, 5e-3, log=True),
        "dropout": Float(0.1, 0.6),
        "attention_dropout": Float(0.0, 0.6),
        "softmax.label_smoothing": Float(0.0, 0.2),
        "dim": Choice(32, 64, 128),
        "num_layers": Int(1, 3),
    }
)
