"""What ``nearfar tune graph.contrast`` searches."""

from __future__ import annotations

from nearfar.tuning import Float, SearchSpace

SPACE = SearchSpace(
    {
        "optim.lr": Float(2e-4, 5e-3, log=True),
        "temperature": Float(0.2, 1.0),
        "augment.drop_1": Float(0.1, 0.6),
        "augment.drop_2": Float(0.1, 0.6),
    }
)
