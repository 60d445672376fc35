"""What labels alone give: a tsai backbone trained on the classes of the sets that series.py represents without them.

FCNPlus (Wang et al., 2017), Adam with one cycle up to 1e-3, last weights; accuracy on the test series, several seeds.
Results go to benchmarks/results/series-<set>/supervised.json, and what is there is not done again.

    python benchmarks/supervised.py --data-dir DIR [--sets gunpoint ...] [--arch FCNPlus] [--epochs 100] [--seeds 5]
        [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from nearfar.atomic import write_atomically
from nearfar.interop.tsai import load
from nearfar.runtime import generator, initial_weights, stream_seed
from nearfar.timeseries import ClassificationDataset, load_dataset

SETS = ("gunpoint", "basicmotions", "japanesevowels", "pigcvp")
BATCH, PEAK = 32, 1e-3


def accuracy(data: ClassificationDataset, arch: str, epochs: int, seed: int, device: str) -> float:
    """Train on the training series, count on the test series.

    Args:
        data: With classes.
        arch: Name of a model of tsai.
        epochs: Passes over the training series.
        seed: Of weights and order.
        device: Where to train.
    """
    x_train, x_test = (x.nan_to_num(0).mT.contiguous().to(device) for x in (data.x_train, data.x_test))
    y_train = data.y_train.to(device)
    make: Any = load("tsai.models.utils").build_ts_model
    kind = getattr(load("tsai.models.all"), arch)
    with initial_weights(stream_seed(seed, "init")):
        model = make(kind, x_train.shape[1], len(data.classes), x_train.shape[2]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=PEAK)
    steps = epochs * -(-len(x_train) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps)
    for epoch in range(epochs):
        order = torch.randperm(len(x_train), generator=generator(seed, "order", epoch))
        for rows in order.to(device).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(x_train[rows]), y_train[rows]).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in x_test.split(BATCH)]).cpu()
    return float((predicted == data.y_test).double().mean())


def main() -> None:
    """Train what is missing and print one row a set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder with classification/JapaneseVowels")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--arch", default="FCNPlus")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        print("supervised: nothing is trained without --data-dir")
        return
    torch.set_num_threads(1)
    for name in arguments.sets:
        path = Path(__file__).with_name("results") / f"series-{name}" / "supervised.json"
        known = json.loads(path.read_text()) if path.exists() else {"arch": arguments.arch, "seeds": {}}
        data = load_dataset(name, arguments.data_dir)
        assert isinstance(data, ClassificationDataset)
        for seed in range(1000, 1000 + arguments.seeds):
            if str(seed) not in known["seeds"]:
                found = accuracy(data, arguments.arch, arguments.epochs, seed, arguments.device)
                known["seeds"][str(seed)] = {
                    "epochs": arguments.epochs,
                    "device": arguments.device,
                    "test/accuracy": found,
                }
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps(known, indent=1) + "\n")
        values = [entry["test/accuracy"] for entry in known["seeds"].values()]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name}, {known['arch']}: {statistics.mean(values):.3f} ± {spread:.3f}, {len(values)} seeds")


if __name__ == "__main__":
    main()
