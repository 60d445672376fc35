"""A trained model in the store: built from its folder, saved beside, uploaded through the client.

MLflow's own ``log_model`` works on a global address of the store and an active run; here both are given, so
that any thread may store a model while others talk to other stores.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nearfar.optional import require
from nearfar.tracking.store import Store


def store_model(
    store: Store, run_id: str, builder: str, folder: Path, params: Mapping[str, str] | None = None
) -> str:
    """Store a pyfunc model under a run, unless the run has one of that name.

    Args:
        store: Where to.
        run_id: The run that made it.
        builder: ``module:function``, of those that the module names in ``PYFUNC_BUILDERS``; given ``folder`` it
            returns ``name`` and the arguments of ``mlflow.pyfunc.save_model``.
        folder: The exported model.
        params: Settings shown with the model.

    Returns:
        Id of the model.

    Raises:
        FileNotFoundError: If the folder is gone, or there is no such builder.
    """
    if not folder.exists():
        raise FileNotFoundError(f"{folder} is gone")
    pyfunc = require("mlflow.pyfunc", "storing the model")
    models = require("mlflow.models", "storing the model")
    entities = require("mlflow.entities", "storing the model")
    arguments = dict(_builder(builder)(folder))
    name, client = arguments.pop("name"), store.client
    run = client.get_run(run_id)
    experiment = run.info.experiment_id
    mine = f"source_run_id = '{run_id}' AND name = '{name}'"
    found = client.search_logged_models([experiment], filter_string=mine)
    model = found[0] if found else None
    if model is not None and str(model.status) == "READY":
        return str(model.model_id)
    if model is None:
        model = client.create_logged_model(
            experiment, name=name, source_run_id=run_id, params=dict(params or {})
        )
    with tempfile.TemporaryDirectory() as temporary:
        description = models.Model(
            artifact_path=model.artifact_location,
            model_uuid=model.model_id,
            run_id=run_id,
            model_id=model.model_id,
        )
        path = Path(temporary) / "model"
        pyfunc.save_model(path, mlflow_model=description, **arguments)
        client.log_model_artifacts(model.model_id, str(path))
    if model.model_id not in {output.model_id for output in run.outputs.model_outputs}:
        client.log_outputs(run_id, [entities.LoggedModelOutput(model.model_id, step=0)])
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def _builder(name: str) -> Callable[[Path], Mapping[str, Any]]:
    """A function that its module offers for this: a journal names it, and must not name just any.

    Raises:
        FileNotFoundError: If it is none.
    """
    module, _, function = name.partition(":")
    try:
        found = importlib.import_module(module)
    except (ImportError, ValueError):
        raise FileNotFoundError(f"there is no module of '{name}'") from None
    if function not in getattr(found, "PYFUNC_BUILDERS", ()):
        raise FileNotFoundError(f"'{name}' builds no models: {module}.PYFUNC_BUILDERS does not name it")
    made: Callable[[Path], Mapping[str, Any]] = getattr(found, function)
    return made
