"""Recommendation against RecBole and against MCLRec's published arithmetic: one run, same data, one thread.

Every figure is made in a process of its own, in CPU seconds. An epoch-equivalent is one pass over all (prefix, next
item) pairs of the training histories; long epochs are not run to their end: a random sample of their batches is timed
after some to warm up, and scaled by the pairs in them ("batches timed").

Both sides have the same sizes (d = 64, 2 layers, 2 heads, inner width 256, window 50, dropout 0.5), full softmax
and Adam. What differs is said under the table.

    python benchmarks/recsys.py [--data ml-100k | FILE | FOLDER] [--quick] [--json FILE]

Without --data, the variable NEARFAR_RECSYS_DATA may name a second data set, measured after ml-100k.
"""

from __future__ import annotations

import argparse
import fnmatch
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nearfar.augment import two_views
from nearfar.recsys import (
    MCLRec,
    MCLRecConfig,
    SASRec,
    SASRecConfig,
    leave_one_out,
    load_dataset,
)
from nearfar.recsys.config import SequenceModelConfig
from nearfar.recsys.mclrec.batches import Prefixes
from nearfar.recsys.mclrec.losses import data_contrast, model_contrast, regulariser
from nearfar.recsys.ranking import evaluate
from nearfar.recsys.recbole import recbole_session
from nearfar.recsys.recbole.conversion import to_encoder, to_interactions
from nearfar.recsys.sasrec import SASRecEncoder
from nearfar.recsys.windows import WindowBatches
from nearfar.runtime import Runtime, generator
from nearfar.training import BatchSource, Method, fit

if TYPE_CHECKING:
    from benchmarks.measure import ChildFailedError, cost_of_one_call, in_fresh_process
else:
    from measure import ChildFailedError, cost_of_one_call, in_fresh_process  # first on the path of a script

ENVIRONMENT = "NEARFAR_RECSYS_DATA"
SIZES: dict[str, Any] = {"dropout": 0.5, "attention_dropout": 0.5, "device": "cpu", "epochs": 1}
ROWS = 256  # per batch in the published program
LAMBDA, BETA = 0.1, 0.1  # any but 0: both sides have to compute every term


@dataclass(frozen=True)
class Figure:
    """One measurement.

    Attributes:
        part: Letter of the comparison.
        name: What was measured.
        values: By column.
    """

    part: str
    name: str
    values: dict[str, float]


def recbole_parts(data: str, name: str = "SASRec", **settings: Any) -> SimpleNamespace:
    """A model of RecBole with trainer and loaders; call inside :func:`in_recbole`."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    path = Path(load_dataset(data).source)
    given = {
        "data_path": str(path.parents[1]),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "train_neg_sample_args": None,
        "use_gpu": False,
        "show_progress": False,
        "topk": [5, 10, 20],
        "metrics": ["Hit", "NDCG", "MRR"],
    }
    config = Config(model=name, dataset=path.stem, config_dict=given | settings)
    init_seed(config["seed"], reproducibility=True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = get_model(name)(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
    return SimpleNamespace(trainer=trainer, model=model, train=train, valid=valid, test=test, dataset=dataset)


@contextmanager
def in_recbole() -> Iterator[None]:
    """RecBole's scope in a folder that may be written to."""
    with tempfile.TemporaryDirectory() as folder, recbole_session():
        before = Path.cwd()
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def recbole_training(data: str, batch: int, batches: int) -> list[Figure]:
    """RecBole's own SASRec in its own Trainer, with anomaly detection as RecBole leaves it, and without."""
    figures = []
    with in_recbole():
        parts = recbole_parts(data, train_batch_size=batch)
        pairs = len(parts.train._dataset)
        for anomaly in (True, False):
            with torch.autograd.set_detect_anomaly(anomaly):
                parts.trainer._train_epoch(Some(parts.train, 2), 0)
                begun = time.process_time()
                parts.trainer._train_epoch(Some(parts.train, batches), 0)
                seconds = time.process_time() - begun
            figures.append(
                Figure(
                    "a",
                    f"RecBole SASRec, {batch} rows, anomaly detection {'on (its default)' if anomaly else 'off'}",
                    trained(seconds / (batches * batch) * pairs, len(parts.train), pairs, batches),
                )
            )
    return figures


class Sample:
    """The first batches of a source, counting what is in them.

    Args:
        source: Batches in random order.
        batches: How many.
    """

    def __init__(self, source: BatchSource, batches: int) -> None:
        self._source, self.steps_per_epoch, self.targets = source, batches, 0

    def batch(self, step: int) -> Any:
        """As the source has it."""
        batch = self._source.batch(step)
        self.targets += getattr(batch, "windows", batch).num_targets
        return batch


def our_training(
    part: str,
    name: str,
    method_class: type[Any],
    config: SequenceModelConfig,
    batches: int,
    *,
    encoder_moves: int = 1,
) -> Figure:
    """Our method in our loop, as ``nearfar train`` runs it, less validation and records."""
    split = leave_one_out(load_dataset(config.data).interactions)
    runtime = Runtime.start("cpu")
    source = method_class.batches(config, split, runtime)
    method: Method = method_class(config, split)
    fit(method, Sample(source, 3), config=config, runtime=runtime, quiet=True)
    sample = Sample(source, min(batches, source.steps_per_epoch))
    begun = time.process_time()
    fit(method, sample, config=config, runtime=runtime, quiet=True)
    seconds = time.process_time() - begun
    pairs = len(Prefixes(split, config.max_length))
    share = sample.targets / pairs
    values = trained(
        seconds / share, sample.steps_per_epoch / share * encoder_moves, pairs, sample.steps_per_epoch
    )
    if isinstance(config, MCLRecConfig):
        values["rows"] = source.steps_per_epoch * config.contrast.rows
    return Figure(part, name, values)


def trained(epoch: float, updates: float, pairs: int, batches: int) -> dict[str, float]:
    """Columns of the parts about training."""
    return {
        "epoch_s": epoch,
        "updates": updates,
        "ms_per_update": 1e3 * epoch / updates,
        "pairs": pairs,
        "timed": batches,
    }


def our_sasrec(data: str, batches: int, **settings: Any) -> Figure:
    """Our SASRec."""
    config = SASRecConfig.model_validate({"data": data, **SIZES, **settings})
    detail = ", every context whole (stride 1)" if config.stride == 1 else ""
    name = f"nearfar SASRec, {config.targets_per_batch} targets{detail}"
    return our_training("a", name, SASRec, config, batches)


def our_mclrec(data: str, batches: int, targets: int, **settings: Any) -> Figure:
    """Our MCLRec; 256 rows are contrasted per step."""
    config = MCLRecConfig.model_validate(
        {
            "data": data,
            **SIZES,
            "targets_per_batch": targets,
            "contrast": {"rows": ROWS, "weight": LAMBDA},
            "augmenters": {"weight": BETA},
            **settings,
        }
    )
    moves = 2 if config.schedule == "official" else 1
    name = f"nearfar MCLRec, {config.schedule}, {targets} targets and {ROWS} rows"
    return our_training("b", name, MCLRec, config, batches, encoder_moves=moves)


def plugin_mclrec(data: str, batches: int) -> Figure:
    """Our MCLRec inside RecBole, official schedule: the rows of the published program, one by one."""
    settings = {"cl_schedule": "official", "lmd": LAMBDA, "cl_beta": BETA, "train_batch_size": ROWS}
    with in_recbole():
        parts = recbole_parts(data, "MCLRec", **settings)
        pairs = len(parts.train._dataset)
        parts.trainer._train_epoch(Some(parts.train, 2), 0)
        begun = time.process_time()
        parts.trainer._train_epoch(Some(parts.train, batches), 1)
        seconds = time.process_time() - begun
    values = trained(seconds / (batches * ROWS) * pairs, 2 * len(parts.train), pairs, batches)
    return Figure("b", f"nearfar MCLRec in RecBole, official, {ROWS} rows", values | {"rows": pairs})


class Some:
    """The first batches of a loader.

    Args:
        loader: RecBole's.
        batches: How many.
    """

    def __init__(self, loader: Any, batches: int) -> None:
        self._loader, self._batches, self.generator = loader, batches, loader.generator

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self._loader, self._batches)


class Published(nn.Module):
    """MCLRec as its official program computes it (section 5 of the paper, three stages a batch), in plain PyTorch.

    Rows are padded to the window, every layer is computed at every position, each of the three stages encodes the row
    and both views, the augmenters' stage back-propagates through the encoder, and every loss makes its own Gram
    matrix. The encoder's layers, dropout and the augmentations are ours on both sides.

    Args:
        num_items: Items.
        max_length: Positions.
        dim: Width.
    """

    def __init__(self, num_items: int, max_length: int, dim: int = 64) -> None:
        super().__init__()
        self.encoder = SASRecEncoder(
            num_items, max_length=max_length, dim=dim, dropout=0.5, attention_dropout=0.5
        )
        widths = [dim, dim // 2, dim // 4, dim]
        self.augmenters = nn.ModuleList(
            nn.Sequential(
                *itertools.chain(*((nn.Linear(a, b), nn.GELU()) for a, b in itertools.pairwise(widths)))
            )[:-1]
            for _ in range(2)
        )
        self.causal = torch.ones(max_length, max_length, dtype=torch.bool).tril()

    def encode(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Last states of padded rows."""
        e = self.encoder
        x = e.dropout(e.norm(e.item(items) + e.position.weight))
        visible = self.causal & (items != 0)[:, None, :]
        blind = ~visible.any(-1, keepdim=True)
        visible = (visible | (blind & torch.eye(items.shape[1], dtype=torch.bool)))[:, None]
        for layer in e.layers:
            x = layer(x, visible)
        last: Tensor = x[torch.arange(len(x)), lengths - 1]
        return last

    def losses(self, row: tuple[Tensor, Tensor, Tensor], views: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """What stages 1 and 3 descend."""
        items, lengths, targets = row
        rec = F.cross_entropy(self.encoder.logits(self.encode(items, lengths)), targets - 1)
        one, two = (self.encode(*view) for view in views)
        return rec + LAMBDA * pair_loss(one, two) + BETA * self.augmented(one, two)

    def augmented(self, one: Tensor, two: Tensor, reg: float = 0.1) -> Tensor:
        """The contrasts with the augmenters' outputs and ``reg`` times their regulariser."""
        first, second = (F.normalize(w(h), dim=1) for w, h in zip(self.augmenters, (one, two), strict=True))
        pairs = ((first, second), (one, second), (two, first))
        return torch.stack([pair_loss(a, b) + reg * pair_regularizer(a, b) for a, b in pairs]).sum()

    def step(
        self,
        row: tuple[Tensor, Tensor, Tensor],
        views: Sequence[tuple[Tensor, Tensor]],
        theta: torch.optim.Optimizer,
        phi: torch.optim.Optimizer,
    ) -> None:
        """One batch: encoder, augmenters, encoder."""
        for stage in (1, 2, 3):
            self.augmenters.requires_grad_(stage == 2)
            theta.zero_grad()
            phi.zero_grad()
            if stage == 2:
                self.encode(row[0], row[1])  # encoded there, too, and not used
                one, two = (self.encode(*view) for view in views)
                loss = LAMBDA * pair_loss(one, two) + self.augmented(one, two)
            else:
                loss = self.losses(row, views)
            loss.backward()
            (phi if stage == 2 else theta).step()


def pair_logits(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Inner products of all rows of both, the diagonal hidden, and each row's partner."""
    both = torch.cat([a, b])
    logits = (both @ both.T).masked_fill(torch.eye(len(both), dtype=torch.bool), -torch.inf)
    return logits, torch.arange(len(both)).roll(len(a))


def pair_loss(a: Tensor, b: Tensor) -> Tensor:
    """L_con: every row finds its partner among all other rows of both."""
    return F.cross_entropy(*pair_logits(a, b))


def pair_regularizer(a: Tensor, b: Tensor) -> Tensor:
    """R with bounds per row, in the clamped form it is defined by."""
    logits, partner = pair_logits(a, b)
    positive = logits.gather(1, partner[:, None])
    hidden = torch.eye(len(logits), dtype=torch.bool)
    hidden[torch.arange(len(logits)), partner] = True
    negative = logits[~hidden].view(len(logits), -1)
    hardest = negative.amax(1, keepdim=True)
    low, high = torch.minimum(positive, hardest), torch.maximum(positive, hardest)
    return (positive - low).clamp(min=0).mean() + (high - negative).clamp(min=0).mean()


def published_mclrec(data: str, batches: int) -> Figure:
    """The official arithmetic, three stages a batch."""
    torch.manual_seed(0)
    split = leave_one_out(load_dataset(data).interactions)
    config = MCLRecConfig.model_validate({"data": data, **SIZES})
    prefixes = Prefixes(split, config.max_length)
    model = Published(split.data.num_items, config.max_length)
    theta, phi = (torch.optim.Adam(part.parameters()) for part in (model.encoder, model.augmenters))
    check_same_terms(model, prefixes)
    seconds = 0.0
    for step in range(-1, batches):
        begun = time.process_time()
        rng = generator(0, "rows", step + 1)
        row = padded_rows(prefixes, rng)
        model.step(row, two_views(row[0], row[1], rng), theta, phi)
        seconds += (time.process_time() - begun) * (step >= 0)
    epoch = seconds / (batches * ROWS) * len(prefixes)
    values = trained(epoch, 2 * -(-len(prefixes) // ROWS), len(prefixes), batches)
    return Figure("b", f"MCLRec, published arithmetic, {ROWS} rows", values | {"rows": len(prefixes)})


def check_same_terms(model: Published, prefixes: Prefixes) -> None:
    """That both sides compute the same: every term, from the same views and weights, without dropout."""
    rng = generator(0, "check")
    items, lengths, _ = padded_rows(prefixes, rng)
    views = two_views(items, lengths, rng)
    with torch.no_grad():
        model.eval()
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(3)  # away from the small first weights, where all user vectors are alike
        one, two = (model.encode(*view) for view in views)
        theirs = torch.stack(
            [pair_loss(one, two), model.augmented(one, two, 0.0), model.augmented(one, two, 1.0)]
        )
        h = torch.cat([model.encoder.last(*view) for view in views])
        z = torch.cat([F.normalize(w(x), dim=1) for w, x in zip(model.augmenters, h.chunk(2), strict=True)])
        cl2 = model_contrast(h, z)
        ours = torch.stack([data_contrast(h), cl2, cl2 + regulariser(h, z)])
    model.train()
    assert torch.allclose(ours, theirs, rtol=1e-4), (ours, theirs)


def padded_rows(prefixes: Prefixes, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Prefixes drawn uniformly, padded to the window, with lengths and next items."""
    chosen = torch.randint(len(prefixes), (ROWS,), generator=rng)
    items, lengths = prefixes.take(chosen)
    return F.pad(items, (0, prefixes.max_length - items.shape[1])), lengths, prefixes.targets(chosen)


def evaluation(data: str) -> list[Figure]:
    """Users ranked per second, and what both sides find, on the same weights."""
    from recbole.utils import init_seed

    with in_recbole():
        parts = recbole_parts(data)
        init_seed(1, reproducibility=True)
        for parameter in parts.model.parameters():
            nn.init.normal_(parameter, std=0.3)
        parts.trainer.eval_collector.data_collect(parts.train)
        split = leave_one_out(to_interactions(parts.dataset))
        encoder = to_encoder(parts.model)
        theirs, their_speed = repeated(
            lambda: parts.trainer.evaluate(parts.test, load_best_model=False), len(split.users)
        )
        ours, our_speed = repeated(lambda: evaluate(encoder.score, split, "test"), len(split.users))
    for k in (5, 10, 20):
        for mine, yours in (("hr", "hit"), ("ndcg", "ndcg"), ("mrr", "mrr")):
            assert abs(ours[f"{mine}_at_{k}"] - theirs[f"{yours}@{k}"]) < 1e-3, (k, mine)
    return [
        Figure("c", "RecBole evaluator, seen items kept", {"users_per_s": their_speed}),
        Figure("c", "nearfar evaluator, seen items kept and filtered", {"users_per_s": our_speed}),
    ]


def repeated(evaluate_once: Callable[[], Any], users: int) -> tuple[Any, float]:
    """The result, and users per CPU second over two seconds or more."""
    result, seconds, rounds = evaluate_once(), 0.0, 0
    while seconds < 2:
        begun = time.process_time()
        result = evaluate_once()
        seconds, rounds = seconds + time.process_time() - begun, rounds + 1
    return result, rounds * users / seconds


def recbole_pipeline(data: str) -> list[Figure]:
    """RecBole from the file to a data set, and its row expansion and split."""
    from recbole.config import Config

    made: list[Any] = []
    path = Path(load_dataset(data).source)
    with in_recbole():
        from recbole.data import create_dataset

        given = {
            "data_path": str(path.parents[1]),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "train_neg_sample_args": None,
        }
        config = Config(model="SASRec", dataset=path.stem, config_dict=given)
        read = cost_of_one_call(lambda: made.append(create_dataset(config)))
        built = cost_of_one_call(lambda: made.append(made[0].build()))
    return [
        Figure("d", "RecBole: file to data set", {"seconds": read.seconds, "megabytes": read.megabytes}),
        Figure(
            "d",
            "RecBole: dataset.build(), a row per prefix",
            {"seconds": built.seconds, "megabytes": built.megabytes},
        ),
    ]


def our_pipeline(data: str) -> list[Figure]:
    """Ours from the file to interactions, and split, windows and the first batch."""
    made: list[Any] = []
    config = SASRecConfig.model_validate({"data": data, **SIZES})

    def windows() -> None:
        split = leave_one_out(made[0].interactions)
        source = WindowBatches.of(config, split, Runtime.start("cpu"))
        made.extend([split, source, source.batch(0)])

    read = cost_of_one_call(lambda: made.append(load_dataset(data)))
    built = cost_of_one_call(windows)
    return [
        Figure("d", "nearfar: file to interactions", {"seconds": read.seconds, "megabytes": read.megabytes}),
        Figure(
            "d",
            "nearfar: split, windows, first batch",
            {"seconds": built.seconds, "megabytes": built.megabytes},
        ),
    ]


def measurements(data: str, quick: bool) -> dict[str, Callable[[], Iterable[Figure]]]:
    """What is measured, by name, each in a process of its own."""
    some = 6 if quick else 30
    measured: dict[str, Callable[[], Iterable[Figure]]] = {
        "recbole-256": lambda: recbole_training(data, 256, some),
        "recbole-2048": lambda: recbole_training(data, 2048, 1 if quick else 5),
        "sasrec": lambda: [our_sasrec(data, 2 * some)],
        "sasrec-256": lambda: [our_sasrec(data, 6 * some, targets_per_batch=256)],
        "sasrec-whole": lambda: [our_sasrec(data, some // 2, stride=1)],
        "published": lambda: [published_mclrec(data, 2 if quick else 12)],
        "mclrec": lambda: [our_mclrec(data, some, 1024)],
        "mclrec-256": lambda: [our_mclrec(data, some, 256)],
        "mclrec-official": lambda: [our_mclrec(data, some, 256, schedule="official")],
        "mclrec-in-recbole": lambda: [plugin_mclrec(data, some // 2)],
        "evaluation": lambda: evaluation(data),
        "recbole-pipeline": lambda: recbole_pipeline(data),
        "pipeline": lambda: our_pipeline(data),
    }
    return {name: call for name, call in measured.items() if not quick or name not in SLOW}


def main() -> None:
    """Measure everything and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="ml-100k, or a file or folder")
    parser.add_argument("--quick", action="store_true", help="few batches: a minute, and a rough answer")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        torch.set_num_threads(1)
        figures = measurements(arguments.data, arguments.quick)[arguments.child]()
        print(json.dumps({"figures": [asdict(figure) for figure in figures]}))
        return
    named = [arguments.data] if arguments.data else ["ml-100k", *filter(None, [os.environ.get(ENVIRONMENT)])]
    results = {}
    for data in named:
        name = load_dataset(data).name
        results[name] = measure(data, arguments.quick)
        report(name, results[name])
    if arguments.json:
        plain = {
            name: {"figures": [asdict(figure) for figure in figures], "ratios": ratios(figures)}
            for name, figures in results.items()
        }
        arguments.json.write_text(json.dumps(plain, indent=2) + "\n")


def measure(data: str, quick: bool) -> list[Figure]:
    """All figures of one data set; a line when each is there."""
    figures: list[Figure] = []
    for name in measurements(data, quick):
        words = [__file__, "--child", name, "--data", data, *(["--quick"] if quick else [])]
        print(f"  {name} ...", file=sys.stderr, flush=True)
        try:
            found = in_fresh_process(words, {})["figures"]
        except ChildFailedError as error:
            sys.exit(f"{name}: {error}")
        figures += [Figure(**values) for values in found]
    return figures


SLOW = {"recbole-2048", "sasrec-256", "sasrec-whole", "mclrec", "mclrec-in-recbole"}  # left out with --quick
COLUMNS: dict[str, tuple[str, str]] = {
    "epoch_s": ("s per epoch", ",.1f"),
    "updates": ("encoder updates", ",.0f"),
    "ms_per_update": ("ms per update", ",.0f"),
    "rows": ("rows contrasted", ",.0f"),
    "timed": ("batches timed", ",.0f"),
    "users_per_s": ("users/s", ",.0f"),
    "seconds": ("s", ".2f"),
    "megabytes": ("peak MB", ",.0f"),
}
TITLES = {
    "a": "SASRec with full softmax, one pass over all (prefix, next item) pairs",
    "b": "MCLRec, one pass; L_cl1, L_cl2 and R",
    "c": "Ranking all items for every test user, same weights, same figures found",
    "d": "Data, from the file to what is trained on; memory above what was there before",
}
NOTES = {
    "a": """Equal: data, pairs, sizes, dropout, softmax over all items, Adam, one thread. Not equal: RecBole trains
a padded row per prefix; nearfar trains all prefixes of a window at once, which is the same loss and gradient (tested
to 1e-12) but shares dropout masks between prefixes of a window; histories longer than 50 items are covered by
overlapping windows in which a target keeps at least 26 items of context ("stride 1" gives every target the
50 that RecBole gives it).""",
    "b": """Equal: every term (checked on the same views and weights before timing), sizes, dropout, encoder layers. The
published arithmetic encodes 9 x 256 padded rows a batch, moves the encoder twice, and makes 7 Gram matrices a stage.
"nearfar in RecBole" trains the same rows by the same schedule; "official" takes the next-item loss over windows
instead; "simultaneous" moves encoder and augmenters at once, so a pass has half the encoder updates; with 1,024 targets
a step it also contrasts a quarter of the rows.""",
    "c": """RecBole reports one protocol (seen items kept), nearfar both in the time given.""",
    "d": """RecBole materialises every prefix (items and times, 50 each); nearfar keeps three numbers per window.""",
}


def report(name: str, figures: Sequence[Figure]) -> None:
    """One table per part, the ratios, and what is and is not equal."""
    for part, title in TITLES.items():
        rows = [figure for figure in figures if figure.part == part]
        columns = [key for key in COLUMNS if any(key in row.values for row in rows)]
        print(f"\n({part}) {name}: {title}\n")
        print("| " + " | ".join(["", *(COLUMNS[key][0] for key in columns)]) + " |")
        print("|--" * (len(columns) + 1) + "|")
        for row in rows:
            cells = [format(row.values[key], COLUMNS[key][1]) if key in row.values else "" for key in columns]
            print("| " + " | ".join([row.name, *cells]) + " |")
        print("\n" + NOTES[part])
    print("\nRatios:")
    for line, ratio in ratios(figures).items():
        print(f"  {ratio:6.1f}x  {line}")


# What is compared: words, column, and the beginnings (and ends) of the names of both sides.
RATIOS: tuple[tuple[str, str, str, str], ...] = (
    (
        "SASRec epoch, RecBole with 256 rows",
        "epoch_s",
        "RecBole SASRec, 256 rows, * off",
        "nearfar SASRec, 1024 targets",
    ),
    (
        "SASRec epoch, RecBole with 2,048 rows",
        "epoch_s",
        "RecBole SASRec, 2048 rows, * off",
        "nearfar SASRec, 1024 targets",
    ),
    (
        "SASRec epoch, RecBole with 256 rows and anomaly detection, as it comes",
        "epoch_s",
        "RecBole SASRec, 256 rows, * on (*",
        "nearfar SASRec, 1024 targets",
    ),
    (
        "SASRec epoch, RecBole with 256 rows, every context whole on both sides",
        "epoch_s",
        "RecBole SASRec, 256 rows, * off",
        "nearfar SASRec, *whole*",
    ),
    (
        "MCLRec epoch, as many rows contrasted",
        "epoch_s",
        "MCLRec, published*",
        "nearfar MCLRec, simultaneous, 256 *",
    ),
    ("MCLRec encoder update", "ms_per_update", "MCLRec, published*", "nearfar MCLRec, simultaneous, 256 *"),
    (
        "MCLRec epoch, defaults but for the rows",
        "epoch_s",
        "MCLRec, published*",
        "nearfar MCLRec, simultaneous, 1024 *",
    ),
    ("MCLRec epoch and update, same schedule", "epoch_s", "MCLRec, published*", "nearfar MCLRec, official*"),
    (
        "MCLRec epoch, same schedule and row by row",
        "epoch_s",
        "MCLRec, published*",
        "nearfar MCLRec in RecBole*",
    ),
    ("evaluation, twice the protocols", "users_per_s", "nearfar evaluator*", "RecBole evaluator*"),
    ("data, seconds", "seconds", "RecBole: dataset.build()*", "nearfar: split*"),
    ("data, peak memory", "megabytes", "RecBole: dataset.build()*", "nearfar: split*"),
)


def ratios(figures: Sequence[Figure]) -> dict[str, float]:
    """How many times better ours is, by what is compared; without what was not measured."""
    found = {}
    for words, column, over, under in RATIOS:
        sides = [
            [f.values[column] for f in figures if fnmatch.fnmatchcase(f.name, name)] for name in (over, under)
        ]
        if all(sides):
            found[words] = sides[0][0] / max(sides[1][0], 1e-9)
    return found


if __name__ == "__main__":
    main()
