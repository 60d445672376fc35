"""Recommending to many users: the full score matrix against tiles of it, in one run of the same model.

The plain way scores every item for a batch of histories in the order they come, hides what was seen and takes the
best of each row; ours sorts histories by length and merges the best of one tile of items at a time. Both give
the same items. CPU seconds of one thread, a fresh process per figure; memory above model and histories.

    python benchmarks/scoring.py [--data amazon-beauty --data-dir DIR] [--users 22363] [--items 12101] [--k 20]
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from nearfar.recsys import SASRecConfig, load_dataset
from nearfar.recsys.ranking import hide_seen
from nearfar.recsys.retrieval import BATCH_SIZE, rank_items
from nearfar.recsys.sasrec.encoder import SASRecEncoder
from nearfar.runtime import generator, numpy_generator

if TYPE_CHECKING:
    from benchmarks.measure import cost, in_fresh_process
else:
    from measure import cost, in_fresh_process  # this folder is first on the path of a script

SIDES = ("full matrix", "tiles")
LARGER = 10  # times the catalogue, for the second row: memory must not follow
REPEATED_USERS = 4096  # of the larger catalogue


def histories_of(arguments: argparse.Namespace) -> tuple[list[NDArray[np.int64]], int]:
    """Histories and the number of items: those of a data set, or drawn with about the lengths of Beauty's."""
    if arguments.data is not None:
        data = load_dataset(arguments.data, arguments.data_dir).interactions
        users = min(arguments.users, data.num_users)
        return [data.sequence(user) for user in range(users)], data.num_items
    rng = numpy_generator(0, "histories")
    # Beauty: 5 to 204 events, median 6, mean 8.9.
    lengths = np.minimum(5 + rng.geometric(0.21, arguments.users), 204)
    return [rng.integers(1, arguments.items + 1, size=int(length)) for length in lengths], arguments.items


def plain(scorer: SASRecEncoder, histories: list[NDArray[np.int64]], k: int) -> NDArray[np.int64]:
    """Item indices of the ``k`` best, from the full matrix of a batch."""
    found = []
    for begin in range(0, len(histories), BATCH_SIZE):
        batch = histories[begin : begin + BATCH_SIZE]
        found.append(hide_seen(scorer.score(batch), batch).topk(k).indices + 1)
    return torch.cat(found).numpy()


def measure_one(arguments: argparse.Namespace) -> None:
    """Cost of one side, as JSON."""
    torch.set_num_threads(1)
    histories, num_items = histories_of(arguments)
    if arguments.larger:
        histories, num_items = histories[:REPEATED_USERS], LARGER * num_items
    config = SASRecConfig()
    scorer = SASRecEncoder(
        num_items, max_length=config.max_length, dim=config.dim, generator=generator(0, "init")
    )
    scorer.eval()

    def tiles() -> NDArray[np.int64]:
        return rank_items(scorer, histories, arguments.k, seen=histories, num_items=num_items).items

    def full() -> NDArray[np.int64]:
        return plain(scorer, histories, arguments.k)

    same = float((tiles()[:64] == plain(scorer, histories[:64], arguments.k)).mean())
    step = tiles if arguments.side == "tiles" else full
    found = asdict(cost(step, "cpu", seconds=arguments.seconds, most=5))
    print(json.dumps({**found, "users": len(histories), "items": num_items, "same": same}))


def main() -> None:
    """Measure both sides, at both sizes of the catalogue, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", help="data set with the histories; drawn ones by default")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--users", type=int, default=22_363)
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--larger", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side is not None:
        measure_one(arguments)
        return
    for larger in (False, True):
        results = {}
        for side in SIDES:
            given = [*sys.argv[1:], "--side", side, *(["--larger"] if larger else [])]
            results[side] = in_fresh_process([__file__, *given], {})
        first = results[SIDES[0]]
        print(
            f"{first['users']:,} users, {first['items']:,} items, top {arguments.k}, one thread, CPU seconds"
        )
        for side, found in results.items():
            rate = found["users"] / found["seconds"]
            print(
                f"  {side:12s} {found['seconds']:6.2f} s  {rate:7,.0f} users/s  {found['megabytes']:6.0f} MB"
                f"  (same items: {found['same']:.4f})"
            )
        old, new = (results[side] for side in SIDES)
        print(
            f"  ratio {old['seconds'] / new['seconds']:.2f}x time, {old['megabytes'] / new['megabytes']:.1f}x memory"
        )


if __name__ == "__main__":
    main()
