"""The saved recommender as an MLflow model: histories of raw item ids in, items and scores out.

Ids are text on the wire, whatever they are in the data: the item 7 is asked for, and answered, as ``"7"``. A request
with numbers is refused by MLflow, which checks it against the signature. It does not refuse a null between ids but cuts
the other ids of that history to one letter (MLflow 3.17): who asks must not send nulls.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearfar import version as own_version
from nearfar.optional import require, version
from nearfar.recsys.saved import RECOMMENDER
from nearfar.recsys.vocabulary import ids_from_json

NAME = "recommender"
# What a run's journal may ask for.
PYFUNC_BUILDERS = ("pyfunc_arguments",)
# What loading the model imports, and what `mlflow models serve` runs it in.
_NEEDS = ("numpy", "pandas", "safetensors", "torch")
_SERVER = ("fastapi", "uvicorn")


def pyfunc_arguments(folder: Path) -> Mapping[str, Any]:
    """``name`` and arguments of ``mlflow.pyfunc.save_model`` for a folder written by ``Recommender.save``.

    The model is stored as code plus that folder; no pickle is involved. Its input column ``history`` is an array of
    text, oldest item first; ``k`` and ``exclude_seen`` are parameters.

    Args:
        folder: The saved recommender.

    Raises:
        DataError: If it is none.
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
    _, description = RECOMMENDER.read(folder)
    known = [str(item) for item in ids_from_json(description["item_ids"][:2])]
    return {
        "name": NAME,
        "python_model": str(Path(__file__).with_name("serving_model.py")),
        "artifacts": {"recommender": str(folder)},
        "signature": signature,
        "input_example": (pandas.DataFrame({"history": [known, known[:1]]}), {"k": 1}),
        "pip_requirements": requirements(),
    }


def requirements() -> list[str]:
    """What the model is served with, at the versions it was made with; MLflow adds itself.

    A local label such as ``+cpu`` is left off: no index has it, and the version without it is the same code.
    """
    found = {name: version(name) for name in (*_NEEDS, *_SERVER)} | {"nearfar": own_version.get()}
    return [f"{name}=={exact.partition('+')[0]}" for name, exact in sorted(found.items()) if exact]
