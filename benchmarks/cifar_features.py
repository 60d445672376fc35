"""Wrong, long-tailed labels on CIFAR-10: linear classifiers of frozen, unsupervised patch features.

This is not the protocol of the RCAL paper, which trains a ResNet-32 for hundreds of epochs on a GPU; its numbers and
these do not compare. What it says is which classifier does most with one and the same weak representation. The features
are those of Coates, Lee and Ng (AISTATS 2011): a dictionary of 6x6 patches found by k-means after contrast
normalisation and whitening, triangle activation at every place, sums over the quadrants; then the leading principal
components. No label is used, but dictionary and components come from all 50,000 training images, of which a long tail
is a part: somebody with nothing but the long tail would have less. Every classifier scales the components to
deviation 1; see nearfar.pipelines.noisy_labels.baselines.

    python benchmarks/cifar_features.py --data-dir DIR [--work-dir DIR] [--seeds 4] [--ratio 10 100] [--noise 0.4]

DIR holds cifar-10-batches-py or cifar-10-batches-bin. The features take some minutes and are kept in
<work-dir>/features.npz. Metrics go to benchmarks/results/cifar-features.json, one entry for each ratio and noise, old
entries replaced; the tables are printed from there, and nothing else is done without --data-dir. --noise 0 is the
reference with true labels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nearfar.atomic import write_atomically
from nearfar.classification.cifar import read_cifar
from nearfar.data import content_digest
from nearfar.labels import (
    balanced_accuracy,
    class_counts,
    head_classes,
    label_noise,
    long_tail,
    purity,
    recall_by_class,
)
from nearfar.optional import require
from nearfar.pipelines.mean_std import mean_std
from nearfar.pipelines.noisy_labels.baselines import (
    BASELINES,
    KEEP,
    CannotRunError,
    available,
)
from nearfar.pipelines.noisy_labels.experiment import REFERENCE, differences
from nearfar.pipelines.noisy_labels.filters import filters
from nearfar.runtime import generator, numpy_generator, stream_seed

RESULTS = Path(__file__).with_name("results") / "cifar-features.json"
TITLE = "CIFAR-10, frozen unsupervised patch features, linear heads; not the paper's protocol"
CLASSES = 10
SIDE, CHANNELS = 32, 3
VARIANCE_FLOOR = 10.0  # of grey levels from 0 to 255, added before contrast is divided out
WHITENING_FLOOR = 0.1  # added to the eigenvalues of contrast-normalised patches
IMAGES = 4  # at a time: distances to the whole dictionary should stay in the cache
FILTERS = {"none": "no filter", "lof": "LOF", "knn": f"kNN, {KEEP:.0%} kept", "cleanlab": "cleanlab"}


@dataclass(frozen=True)
class FeatureSettings:
    """What the features depend on besides the images.

    Attributes:
        words: Patches in the dictionary.
        patches: Random ones it is made from.
        patch: Their side in pixels.
        dims: Principal components.
        seed: Of patches and k-means.
    """

    words: int = 800
    patches: int = 200_000
    patch: int = 6
    dims: int = 160
    seed: int = 0


@dataclass(frozen=True)
class Features:
    """Rows of the frozen representation and their true classes."""

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]

    def digest(self) -> str:
        """Fingerprint of the content."""
        return content_digest(self.x_train, self.y_train, self.x_test, self.y_test)


# Features


class Dictionary:
    """Words, and how a patch is seen by them.

    Args:
        images: uint8, shape ``(N, 3, 32, 32)``; patches are taken from them at random.
        settings: How many, and of what size.
    """

    def __init__(self, images: Tensor, settings: FeatureSettings) -> None:
        self.patch = settings.patch
        seen = self._contrast_normalised(_random_patches(images, settings))
        self.center = seen.mean(0)
        covariance = torch.cov(seen.double().T)
        values, vectors = torch.linalg.eigh(covariance)
        whiten = vectors * (values.clamp(min=0) + WHITENING_FLOOR).rsqrt() @ vectors.T
        self.whiten = whiten.float()
        cluster = require("sklearn.cluster", "the dictionary of patches")
        found = cluster.MiniBatchKMeans(
            settings.words,
            batch_size=4096,
            n_init=1,
            max_iter=10,
            max_no_improvement=None,
            random_state=stream_seed(settings.seed, "dictionary") % 2**32,
        ).fit(((seen - self.center) @ self.whiten).numpy())
        words = torch.from_numpy(found.cluster_centers_).float()
        # (|x|^2, 1, -2 x) times these is the squared distance to every word.
        self.table = torch.cat([torch.ones(1, len(words)), words.square().sum(1)[None], -2 * words.T])
        places = SIDE - self.patch + 1
        half = (torch.arange(places) >= (places + 1) // 2).long()
        quadrant = (2 * half[:, None] + half).flatten()
        self.pool = F.one_hot(quadrant, 4).T.float().contiguous()

    def __call__(self, images: Tensor) -> Tensor:
        """Activations summed over quadrants, shape ``(B, 4 * words)``."""
        columns = F.unfold(images.float(), self.patch)
        rows = self._contrast_normalised(columns.mT.reshape(-1, columns.shape[1]))
        white = (rows - self.center) @ self.whiten
        length = white.square().sum(1, keepdim=True)
        distance = torch.cat([length, torch.ones_like(length), white], 1) @ self.table
        distance.clamp_(min=0).sqrt_()
        # The triangle: by how much a word is nearer than words are on average, or nothing.
        average = distance.mean(1, keepdim=True)
        active = distance.neg_().add_(average).clamp_(min=0)
        return (self.pool @ active.view(len(images), -1, active.shape[1])).flatten(1)

    @staticmethod
    def _contrast_normalised(patches: Tensor) -> Tensor:
        variance, mean = torch.var_mean(patches, 1, keepdim=True, correction=0)
        return (patches - mean) * (variance + VARIANCE_FLOOR).rsqrt()


def _random_patches(images: Tensor, settings: FeatureSettings) -> Tensor:
    """Float32, shape ``(patches, 3 * patch * patch)``, channel by channel as ``unfold`` has them."""
    rng = generator(settings.seed, "patches")
    which = torch.randint(len(images), (settings.patches,), generator=rng)
    corner = torch.randint(SIDE - settings.patch + 1, (2, settings.patches, 1, 1, 1), generator=rng)
    step = torch.arange(settings.patch)
    found = images[
        which[:, None, None, None],
        torch.arange(CHANNELS)[:, None, None],
        corner[0] + step[:, None],
        corner[1] + step,
    ]
    return found.flatten(1).float()


def principal_components(train: Tensor, test: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Leading components of the training rows, every column scaled to deviation 1 first; works in place."""
    deviation, center = torch.std_mean(train, 0)
    for part in (train, test):
        part.sub_(center).div_(deviation.clamp(min=1e-6))
    moment = torch.zeros(train.shape[1], train.shape[1], dtype=torch.float64)
    for block in train.split(5000):
        moment += block.T @ block
    vectors = torch.linalg.eigh(moment)[1][:, -dims:].flip(1)
    # The sign of an eigenvector is open; here its largest entry is positive.
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    return train @ vectors.float(), test @ vectors.float()


def make_features(data_dir: Path, settings: FeatureSettings) -> Features:
    """Of all images, training and test."""
    (train, y_train), (test, y_test) = read_cifar(data_dir, CLASSES)
    images = torch.from_numpy(train)
    begin = time.perf_counter()
    dictionary = Dictionary(images, settings)
    say(f"dictionary of {settings.words} patches: {time.perf_counter() - begin:.0f} s")
    parts = []
    for name, part in (("training", images), ("test", torch.from_numpy(test))):
        found = torch.empty(len(part), 4 * settings.words)
        for start in range(0, len(part), IMAGES):
            found[start : start + IMAGES] = dictionary(part[start : start + IMAGES])
        parts.append(found)
        say(f"{len(part):,} {name} images seen: {time.perf_counter() - begin:.0f} s")
    x_train, x_test = (part.numpy() for part in principal_components(parts[0], parts[1], settings.dims))
    say(f"{settings.dims} components: {time.perf_counter() - begin:.0f} s")
    return Features(x_train, y_train, x_test, y_test)


def features(data_dir: Path, work_dir: Path, settings: FeatureSettings) -> Features:
    """Those that were kept, if they are of these settings; else new ones, which are kept."""
    path, key = work_dir / "features.npz", json.dumps(asdict(settings))
    if path.exists():
        with np.load(path) as kept:
            if str(kept["settings"]) == key:
                return Features(*(kept[name] for name in ("x_train", "y_train", "x_test", "y_test")))
    made = make_features(data_dir, settings)
    work_dir.mkdir(parents=True, exist_ok=True)
    np.savez(path, settings=key, **vars(made))
    return made


# Classifiers


def run(data: Features, ratio: float, noise: float, seeds: Sequence[int]) -> dict[str, Any]:
    """Every baseline with every seed, which decides long tail, wrong labels and what a classifier draws."""
    baselines, left_out = available()
    names = [baseline.name for baseline in baselines]
    scores: dict[str, list[float | None]] = {name: [] for name in names}
    tails: dict[str, list[float | None]] = {name: [] for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    purities: dict[str, list[dict[str, float | None] | None]] = {}
    for seed in seeds:
        rows = long_tail(data.y_train, ratio, rng=numpy_generator(seed, "long tail"))
        x, true = data.x_train[rows], data.y_train[rows]
        labels = label_noise(
            true, noise, num_classes=CLASSES, rng=numpy_generator(seed, "label noise")
        ).labels
        counts = class_counts(labels, CLASSES)
        tail = np.setdiff1d(np.arange(CLASSES), head_classes(counts))
        for baseline in baselines:
            began = time.process_time()
            try:
                predicted = baseline.fit_predict(x, labels, data.x_test, seed)
            except CannotRunError as error:
                left_out[baseline.name] = str(error)
                scores[baseline.name].append(None)
                tails[baseline.name].append(None)
                continue
            seconds[baseline.name].append(round(time.process_time() - began, 2))
            recalls = recall_by_class(data.y_test, predicted)
            scores[baseline.name].append(balanced_accuracy(data.y_test, predicted))
            tails[baseline.name].append(float(np.mean([recalls[int(k)] for k in tail])))
            say(
                f"ratio {ratio:g}, noise {noise:g}, seed {seed}, {baseline.title}: "
                f"{100 * (scores[baseline.name][-1] or 0):.1f} % ({seconds[baseline.name][-1]:.1f} s)"
            )
        for name, kept in filters(x, labels, seed).items():
            found = None if kept is None else purity(true, labels, kept, subset=tail)
            share = {"kept": found.share_kept, "all": found.overall, "tail": found.subset} if found else None
            purities.setdefault(name, []).append(share)
    return {
        "ratio": ratio,
        "noise": noise,
        "seeds": list(seeds),
        "counts": class_counts(true, CLASSES).tolist(),
        "balanced_accuracy": scores,
        "tail_recall": tails,
        "cpu_seconds": seconds,
        "purity": purities,
        "notes": left_out,
    }


# Report


def tables(results: Mapping[str, Any]) -> str:
    """What is known, as Markdown."""
    settings = results["features"]
    lines = [
        f"# {TITLE}\n",
        f"{settings['words']} words of {settings['patch']}x{settings['patch']} pixels, {settings['dims']} components "
        f"of all training images without labels; {results['test_images']:,} test images.",
    ]
    for entry in results["entries"].values():
        count = len(entry["seeds"])
        lines += [
            f"\n## Ratio {entry['ratio']:g}, {100 * entry['noise']:.0f} % of the labels wrong (imb)\n",
            f"{sum(entry['counts']):,} training images; %, mean ± standard deviation over {count} seeds; difference: "
            f"{BASELINES[REFERENCE].title} minus this method, with p of the paired t-test, corrected by Holm.\n",
            "| | balanced accuracy | tail classes | difference | CPU s |\n|--|--|--|--|--|",
        ]
        paired = differences(entry["balanced_accuracy"])
        for name, values in entry["balanced_accuracy"].items():
            if mean_std(values) is None:
                lines.append(f"| {BASELINES[name].title} | cannot run | | | |")
                continue
            cells = [_percent(values), _percent(entry["tail_recall"][name])]
            apart = paired.get(name)
            if apart is None:
                cells.append("")
            else:
                p = "" if apart.p_holm is None else f" (p {apart.p_holm:.2g})"
                cells.append(f"{100 * apart.mean:+.1f}{p}")
            cells.append(f"{np.mean(entry['cpu_seconds'][name]):.1f}")
            lines.append(f"| {BASELINES[name].title} | {' | '.join(cells)} |")
        lines += [
            "\nShare of right labels among the rows that a filter keeps.\n",
            "| | kept | all | tail classes |\n|--|--|--|--|",
        ]
        for name, found in entry["purity"].items():
            known = [one for one in found if one is not None]
            row = [_percent([one[key] for one in known]) for key in ("kept", "all", "tail")]
            lines.append(f"| {FILTERS[name]} | {' | '.join(row)} |")
        lines += [f"\n- {BASELINES[name].title}: {why}" for name, why in entry["notes"].items()]
    return "\n".join(lines)


def _percent(values: Sequence[float | None]) -> str:
    found = mean_std(values)
    return "cannot run" if found is None else found.percent()


def say(line: str) -> None:
    """Tell how far it is."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run what is asked for, keep it and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="nothing is run without it")
    parser.add_argument("--work-dir", type=Path, default=Path("outputs/cifar-features"))
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the metrics go")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=1000, help="others for trying things out")
    parser.add_argument("--ratio", type=float, nargs="+", default=[10.0, 100.0])
    parser.add_argument("--noise", type=float, default=0.4)
    parser.add_argument("--words", type=int, default=FeatureSettings.words)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    if arguments.data_dir is not None:
        settings = FeatureSettings(words=arguments.words)
        data = features(arguments.data_dir, arguments.work_dir, settings)
        about = {
            "title": TITLE,
            "features": {**asdict(settings), "digest": data.digest()},
            "test_images": len(data.y_test),
            "versions": {name: version(name) for name in ("torch", "scikit-learn", "numpy")},
        }
        # Numbers of other features do not belong into one table with these.
        entries = known.get("entries", {}) if known.get("features") == about["features"] else {}
        for ratio in arguments.ratio:
            seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
            entries[f"ratio={ratio:g},noise={arguments.noise:g}"] = run(data, ratio, arguments.noise, seeds)
            known = {**about, "entries": entries}
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(arguments.out, json.dumps(known, indent=1) + "\n")
    if known:
        print(tables(known))
    else:
        print(f"{TITLE}: no results yet; --data-dir FOLDER with CIFAR-10 makes them")


if __name__ == "__main__":
    main()
