"""Representations of several domains, trained without labels, and the classes of their rows.

The weights are those of the last epoch: a validation would look at labels. Of every domain one training, whose folder
is found again by the next run. Series are split as their file splits them, and the encoder has seen the training series
only. Nodes, users and films are split at random, half of every class, and are transductive: the encoder has seen all of
them, their labels never.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearfar.data import content_digest
from nearfar.errors import DataError
from nearfar.interop.recbole import packaged_dataset
from nearfar.labels import class_counts, encode_labels, rows_per_class
from nearfar.pipelines.noisy_labels.movielens import age_groups, single_genres
from nearfar.pipelines.train import train
from nearfar.pipelines.trained import Trained, load
from nearfar.runtime import numpy_generator


@dataclass(frozen=True, eq=False)
class Representations:
    """Features and true classes of rows to train on and of rows to test on.

    Classes are numbered by their training rows, the most first: class 0 becomes the head of the long tail.

    Attributes:
        domain: Short name, as in tables and in the store.
        data: Data set.
        about: What rows and classes are, and what the encoder has seen.
        x_train: Shape ``(n, m)``.
        y_train: Class codes, shape ``(n,)``.
        x_test: Shape ``(N, m)``.
        y_test: Class codes, shape ``(N,)``.
        classes: Names by code.
    """

    domain: str
    data: str
    about: str
    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    classes: tuple[str, ...]

    def digest(self) -> str:
        """Fingerprint of the content."""
        return content_digest(self.x_train, self.y_train, self.x_test, self.y_test)


@dataclass(frozen=True)
class Source:
    """Where a domain's representations come from.

    Attributes:
        method: Trains them.
        words: Settings, given the folder of all data.
        read: What is asked of the trained method; given the seed of the split too.
    """

    method: str
    words: Callable[[Path], Sequence[str]]
    read: Callable[[Trained, int], Representations]


def represent(
    domain: str,
    data_dir: Path,
    folder: Path,
    *,
    seed: int = 0,
    words: Sequence[str] = (),
    quiet: bool = False,
) -> Representations:
    """Train, or find the training of an earlier call, and embed everything that has a class.

    Args:
        domain: One of :data:`SOURCES`.
        data_dir: Folder of all data: ``classification/JapaneseVowels/`` and ``planetoid/Cora/raw/`` are in it;
            MovieLens is in RecBole's wheel.
        folder: Trainings are kept in folders below it.
        seed: Of the training, and of the split where there is none.
        words: More settings of the method, ``a.b=c``.
        quiet: No progress output.

    Raises:
        DataError: If data are absent, or cannot be used.
        MissingDependencyError: If a package is absent.
        CheckpointError: If ``folder`` holds a training of other data or settings.
    """
    source = SOURCES[domain]
    place = folder / f"{source.method}-s{seed}"
    settings = (
        *source.words(data_dir),
        f"seed={seed}",
        "selection.take=last",
        "tracking.enabled=false",
        f"output_dir={json.dumps(str(place.absolute()))}",
        *words,
    )
    outcome = train(source.method, settings, resume="auto", test=False, quiet=quiet)
    return source.read(load(outcome.output_dir), seed)


def by_size(y_train: NDArray[np.int64], y_test: NDArray[np.int64], classes: Sequence[str]) -> tuple[Any, ...]:
    """Number classes by their training rows, the most first; of equals the one that was first.

    Args:
        y_train: Codes, shape ``(n,)``.
        y_test: Codes, shape ``(N,)``.
        classes: Names by code.

    Returns:
        Both in the new numbers, and the names by these.

    Example:
        >>> by_size(np.array([0, 1, 1]), np.array([0, 1]), ["a", "b"])
        (array([1, 0, 0]), array([1, 0]), ('b', 'a'))
    """
    order = np.argsort(-class_counts(y_train, len(classes)), kind="stable")
    place = np.argsort(order)
    return place[y_train], place[y_test], tuple(classes[k] for k in order)


def halves(
    labels: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of two halves with the same share of every class; of an odd number the first has one more.

    Args:
        labels: Class codes, shape ``(n,)``.
        rng: Source of the split.

    Returns:
        Rows of either half, ascending.
    """
    first = rows_per_class(labels, (class_counts(labels) + 1) // 2, rng)
    return first, np.setdiff1d(np.arange(len(labels)), first)


def _halved(
    domain: str, data: str, about: str, x: NDArray[Any], labels: Sequence[Any], seed: int
) -> Representations:
    codes, classes = encode_labels(labels)
    train_rows, test_rows = halves(codes, numpy_generator(seed, "halves"))
    y_train, y_test, names = by_size(codes[train_rows], codes[test_rows], [str(name) for name in classes])
    return Representations(domain, data, about, x[train_rows], y_train, x[test_rows], y_test, names)


def _embedded(run: Trained) -> NDArray[np.float32]:
    rows = np.arange(run.task.num_rows)
    found: NDArray[np.float32] = run.task.embed(run.method, rows).detach().float().cpu().numpy()
    return found


def _series(run: Trained, seed: int) -> Representations:  # noqa: ARG001 - the file has its split
    data, x = run.task.dataset, _embedded(run)  # type: ignore[attr-defined]
    n = len(data.y_train)
    y_train, y_test, names = by_size(data.y_train.numpy(), data.y_test.numpy(), data.classes)
    about = "AutoTCL; classes are speakers; published split, test series unseen"
    return Representations("timeseries", data.name, about, x[:n], y_train, x[n:], y_test, names)


def _nodes(run: Trained, seed: int) -> Representations:
    data = run.task.dataset  # type: ignore[attr-defined]
    about = "GRACE; classes are topics of papers; halves, transductive"
    return _halved("graph", data.name, about, _embedded(run), data.y.tolist(), seed)


def _users(run: Trained, seed: int) -> Representations:
    groups = age_groups(_movielens(run, ".user"))
    task: Any = run.task
    names = [str(task.dataset.interactions.user_ids[user]) for user in task.split.users]
    rows = [row for row, name in enumerate(names) if name in groups]
    labels = [groups[names[row]] for row in rows]
    about = "SASRec, vectors of users; classes are age groups; halves, transductive"
    return _halved("recsys-users", task.dataset.name, about, _embedded(run)[rows], labels, seed)


def _films(run: Trained, seed: int) -> Representations:
    genres = single_genres(_movielens(run, ".item"))
    method: Any = run.method
    task: Any = run.task
    names = [str(name) for name in task.dataset.interactions.item_ids]
    rows = [row for row, name in enumerate(names) if name in genres]
    # Row 0 of the table is padding.
    x = method.scorer.item.weight.detach().float().cpu().numpy()[1:][rows]
    labels = [genres[names[row]] for row in rows]
    about = "SASRec, vectors of films with one genre; classes are genres; halves, transductive"
    return _halved("recsys-films", task.dataset.name, about, x, labels, seed)


def _movielens(run: Trained, ending: str) -> Path:
    name: str = run.task.card.name
    path = packaged_dataset(name) / f"{name}{ending}"
    if not path.is_file():
        raise DataError(
            f"{path} is missing: this copy of RecBole has no {ending} table, so there are no classes"
        )
    return path


def _ml_100k(data_dir: Path) -> Sequence[str]:  # noqa: ARG001 - comes with a package
    return ("data=ml-100k",)


SOURCES: Mapping[str, Source] = {
    "timeseries": Source(
        "timeseries.autotcl",
        lambda data_dir: (
            "data=JapaneseVowels",
            f"data_dir={json.dumps(str((data_dir / 'classification').absolute()))}",
        ),
        _series,
    ),
    "graph": Source(
        "graph.contrast",
        lambda data_dir: ("data=cora", f"data_dir={json.dumps(str(data_dir.absolute()))}"),
        _nodes,
    ),
    "recsys-users": Source("recsys.sasrec", _ml_100k, _users),
    "recsys-films": Source("recsys.sasrec", _ml_100k, _films),
}
"""By domain; the last two share one training."""
