"""The saved recommender as an MLflow model: histories of raw item ids in, items and scores out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfar.optional import require, version

NAME = "recommender"


def pyfunc_arguments(folder: Path) -> Mapping[str, Any]:
    """``name`` and arguments of ``mlflow.pyfunc.save_model`` for a folder written by ``Recommender.save``.

    The model is stored as code plus that folder; no pickle is involved. Its input column ``history`` is
    an array of text, so integer ids are given as text.
    """
    models = require("mlflow.models", "storing the model")
    types = require("mlflow.types", "storing the model")
    schema = require("mlflow.types.schema", "storing the model")
    text, number = schema.Array(types.DataType.string), schema.Array(types.DataType.double)
    signature = models.ModelSignature(
        inputs=schema.Schema([schema.ColSpec(text, "history")]),
        outputs=schema.Schema([schema.ColSpec(text, "items"), schema.ColSpec(number, "scores")]),
        params=schema.ParamSchema(
            [
                schema.ParamSpec("k", types.DataType.long, 20),
                schema.ParamSpec("exclude_seen", types.DataType.boolean, True),
            ]
        ),
    )
    pandas = require("pandas", "storing the model")
    known = json.loads((folder / "recommender.json").read_text(encoding="utf-8"))["item_ids"]
    needs = [f"{name}=={version(name)}" for name in ("nearfar", "pandas", "torch") if version(name)]
    return {
        "name": NAME,
        "python_model": str(Path(__file__).with_name("serving_model.py")),
        "artifacts": {"recommender": str(folder)},
        "signature": signature,
        "input_example": (pandas.DataFrame({"history": [known[:2], known[:1]]}), {"k": 1}),
        "pip_requirements": needs,
    }
