"""Published and measured figures that an implementation has to reach again."""

from __future__ import annotations

from pathlib import Path

import pytest

from nearfar.recsys import MCLRecommender, Popularity, PopularityConfig, load_dataset
from nearfar.recsys.interactions import Interactions
from nearfar.recsys.ranking import evaluate

SHARED = Path(__file__).parents[3] / "shared" / "data" / "recbole"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared benchmark data are not beside this checkout")
def test_sasrec_learns_a_slice_of_beauty() -> None:
    data = load_dataset("amazon-beauty", SHARED).interactions
    chosen = {
        data.user_ids[user]: [data.item_ids[item - 1] for item in data.sequence(user)] for user in range(3000)
    }
    seen: list[float] = []
    recommender = MCLRecommender(
        epochs=10,
        targets_per_batch=256,
        dropout=0.5,
        attention_dropout=0.5,
        optim__lr=2e-3,
        contrast__weight=0,
        augmenters__weight=0,
        device="cpu",
    ).fit(
        Interactions.from_sequences(chosen),
        callbacks=[lambda metrics, epoch: seen.append(metrics["val/ndcg_at_10"])],
    )
    assert recommender.split_ is not None
    floor = evaluate(
        Popularity(PopularityConfig(), recommender.split_).scorer.score, recommender.split_, "test"
    )
    found = recommender.evaluate("test")
    assert max(seen) > 3 * seen[0]
    assert found["hr_at_10"] > 1.5 * floor["hr_at_10"]
    assert found["hr_at_10_filtered"] >= found["hr_at_10"]  # no item repeats in these histories
