"""Where objectives are compared: one method a domain, on data that come with packages, seconds a run.

All objectives of a domain have the same encoder, views, data, length of training and number of trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nearfar.pipelines.registry import find
from nearfar.selectable import known_objectives
from nearfar.tuning.space import Float, Int, Range

OWN = "own"
"""The loss the method has without ``objective``."""
UNTRAINED = "untrained"
"""The encoder as it is drawn."""
QUICK = ("tracking.enabled=false", "tracking.plots=false", "num_threads=1")
"""Settings of hundreds of short runs that nobody looks at one by one."""


@dataclass(frozen=True)
class Arena:
    """One domain of the comparison.

    Attributes:
        domain: Its name.
        method: Registered name.
        data: Data set.
        words: Settings of all runs.
        metric: What is reported, on test.
        title: What it is, for people.
        own: What its own loss is called, for people.
        ranges: Searched for every objective.
        own_ranges: Searched for its own loss besides.
        untrained: Settings of a run without training; ``None`` where the method cannot be had without.
        trials: Settings of the search alone: there it is selected by rows that are not trained on.
        only: Settings of single objectives, where their defaults do not fit.
    """

    domain: str
    method: str
    data: str
    words: tuple[str, ...]
    metric: str
    title: str
    own: str
    ranges: Mapping[str, Range]
    own_ranges: Mapping[str, Range] = field(default_factory=dict)
    untrained: tuple[str, ...] = ("epochs=0",)
    trials: tuple[str, ...] = ()
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def objectives(self) -> list[str]:
        """Those it can have."""
        offers = find(self.method).load("offers")
        return [name for name, entry in known_objectives().items() if offers.refusal(entry.needs) is None]

    @property
    def rows(self) -> list[str]:
        """All that is tuned and measured: its own loss, then the objectives."""
        return [OWN, *self.objectives]

    def settings(self, row: str) -> tuple[str, ...]:
        """Words of a run without what was tuned.

        Args:
            row: An objective, ``own`` or ``untrained``.
        """
        words = (f"data={self.data}", *self.words)
        if row == UNTRAINED:
            return (*words, *self.untrained)
        return words if row == OWN else (*words, f"objective={row}", *self.only.get(row, ()))

    def space(self, row: str) -> dict[str, Range]:
        """What is searched.

        Args:
            row: An objective, or ``own``.
        """
        if row == OWN:
            return {**self.ranges, **self.own_ranges}
        fields = known_objectives()[row].settings.model_fields
        own = {f"objective.{name}": PARAMETERS[name] for name in fields if name in PARAMETERS}
        return {**self.ranges, **own}


TEMPERATURE = Float(0.03, 2.5, log=True)
# Parameters of objectives that are searched wherever they occur; others stay as published.
PARAMETERS: Mapping[str, Range] = {
    "temperature": TEMPERATURE,
    "initial_temperature": TEMPERATURE,
    "sigma": Float(0.1, 2.0, log=True),
    "t": Float(0.5, 8.0, log=True),
    "t_neg": Float(0.5, 8.0, log=True),
    "margin": Float(0.1, 1.0),
    "off_diagonal_weight": Float(5e-4, 0.1, log=True),
    "covariance_weight": Float(0.1, 25.0, log=True),
    "weight": Float(0.03, 3.0, log=True),
    "gamma": Float(0.0, 4.0),
    "tau_plus": Float(0.0, 0.3),
    "stage_steps": Int(5, 200, log=True),
}

ARENAS: Mapping[str, Arena] = {
    arena.domain: arena
    for arena in (
        Arena(
            "graph",
            "graph.contrast",
            "digits",
            ("dim=8", "epochs=40", "selection.every=40", "selection.take=last"),
            "test/f1_micro",
            "digits, each image joined to those most like it, eight numbers a node: F1 of a probe",
            "GRACE",
            {"optim.lr": Float(1e-4, 1e-2, log=True)},
            {"temperature": TEMPERATURE},
        ),
        Arena(
            "timeseries",
            "timeseries.autotcl",
            "basicmotions",
            (
                "augmenter.kind=random",
                "contrast.form=pooled",
                "contrast.local=0",
                "encoder.hidden=16",
                "encoder.dim=2",
                "encoder.depth=4",
                "average=false",
                "batch_size=40",
                "epochs=150",
                "selection.every=150",
                "selection.take=last",
            ),
            "test/accuracy",
            "BasicMotions, two numbers a series: accuracy of a support vector machine",
            "InfoNCE with random views",
            {"optim.lr": Float(1e-4, 1e-2, log=True)},
            {"contrast.temperature": TEMPERATURE},
            only={"whitened": ("objective.groups=1",)},
        ),
        Arena(
            "recsys",
            "recsys.mclrec",
            "ml-100k",
            (
                "augmenters.weight=0",
                "dim=32",
                "num_layers=1",
                "num_heads=1",
                "inner_dim=64",
                "max_length=20",
                "stride=20",
                "targets_per_batch=2048",
                "epochs=4",
                "selection.every=4",
                "optim.lr=5e-3",
            ),
            "test/ndcg_at_10",
            "ml-100k, a small SASRec: nDCG at 10 among all films",
            "CL4SRec",
            {"contrast.weight": Float(1e-4, 0.3, log=True)},
            {"contrast.temperature": TEMPERATURE},
            untrained=("contrast.weight=0",),
        ),
        Arena(
            "calibration",
            "calibration.rcal",
            "digits",
            ("epochs=60", "pretrain.epochs=30", "milestones=[20,25]", "selection.every=60"),
            "test/balanced_accuracy",
            "digits, a long tail, 40 % of the labels wrong: balanced accuracy of RCAL after pretraining by it",
            "SimCLR",
            {"pretrain.lr": Float(2e-4, 1e-2, log=True)},
            {"pretrain.temperature": TEMPERATURE},
            untrained=("pretrain.epochs=0",),
            trials=("validation=0.25",),
        ),
        Arena(
            "longtail",
            "longtail.supcon",
            "superclass-digits",
            ("epochs=30", "selection.every=30"),
            "test/balanced_accuracy",
            "merged digits with a long tail: balanced accuracy of a classifier of frozen features",
            "SupCon",
            {"optim.lr": Float(5e-4, 2e-2, log=True)},
            {"temperature": TEMPERATURE},
            trials=("validation=0.25",),
        ),
    )
}
