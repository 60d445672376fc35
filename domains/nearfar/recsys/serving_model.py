"""Run by MLflow when the stored recommender is loaded; see ``nearfar.recsys.serving``."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from nearfar.errors import DataError
from nearfar.recsys.recommender import Recommender


class ServedRecommender(PythonModel):  # type: ignore[misc]  # mlflow is untyped
    """``predict`` on a frame with a column ``history``; parameters ``k`` and ``exclude_seen``."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the stored folder."""
        self.recommender = Recommender.load(context.artifacts["recommender"])

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row out per row in, in the same order: arrays ``items`` and ``scores``, best first.

        Unknown items are left out of a history; after one without any known item the most popular items are
        recommended. A row has fewer than ``k`` items where fewer are left.

        Raises:
            MlflowException: If the request makes no sense; the server answers 400 with the reason.
        """
        params = params or {}
        try:
            found = self.recommender.recommend_from_histories(
                [list(history) for history in model_input["history"]],
                int(params.get("k", 20)),
                exclude_seen=bool(params.get("exclude_seen", True)),
                unknown="skip",
                on_empty="popularity",
                allow_short=True,
                as_frame=False,
            )
        except DataError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        rows = list(zip(found.items, found.scores.astype(np.float64), found.counts, strict=True))
        return pd.DataFrame(
            {
                "items": [[str(item) for item in items[:count]] for items, _, count in rows],
                "scores": [scores[:count].tolist() for _, scores, count in rows],
            }
        )


mlflow.models.set_model(ServedRecommender())
