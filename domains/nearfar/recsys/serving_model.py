"""Run by MLflow when the stored recommender is loaded; see ``nearfar.recsys.serving``."""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext

from nearfar.recsys.recommender import Recommender


class ServedRecommender(PythonModel):  # type: ignore[misc]  # mlflow is untyped
    """``predict`` on a frame with a column ``history``; parameters ``k`` and ``exclude_seen``."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the stored folder."""
        self.recommender = Recommender.load(context.artifacts["recommender"])

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row out per row in: arrays ``items`` and ``scores``, best first."""
        params = params or {}
        histories = [list(history) for history in model_input["history"]]
        frame = self.recommender.recommend_from_histories(
            histories,
            int(params.get("k", 20)),
            exclude_seen=bool(params.get("exclude_seen", True)),
            unknown="skip",
        )
        rows = frame.groupby("user", sort=True)
        columns = {"items": rows["item"].agg(list), "scores": rows["score"].agg(list)}
        return pd.DataFrame(columns).reset_index(drop=True)


mlflow.models.set_model(ServedRecommender())
