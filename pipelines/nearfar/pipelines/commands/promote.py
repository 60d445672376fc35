"""``nearfar promote``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from nearfar.pipelines.commands.options import Debug, Json


def promote(
    target: Annotated[str, typer.Argument(help="Output folder or MLflow id of a run.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Registered model; default: one name per data set.")
    ] = None,
    alias: Annotated[str, typer.Option("--alias", help="Alias to move.")] = "champion",
    uri: Annotated[
        str | None, typer.Option("--uri", help="MLflow store; default: where the run was recorded.")
    ] = None,
    json_line: Json = False,
    debug: Debug = False,
) -> None:
    """Register a trained run's model and point an alias at it; repeating it changes nothing."""
    from nearfar.pipelines.promotion import promote as register
    from nearfar.redaction import redacted

    done, store = register(target, name=name, alias=alias, uri=uri)
    address = redacted(store.uri)
    if json_line:
        typer.echo(json.dumps(done.to_dict() | {"uri": address}))
        return
    was = f" (was version {done.previous})" if done.previous not in (None, done.version) else ""
    typer.echo(f"{done.name} version {done.version} is {done.alias}{was}: run {done.run_id} in {address}")
    typer.echo(f'load:  mlflow.set_tracking_uri("{address}"); mlflow.pyfunc.load_model("{done.model_uri}")')
    typer.echo(
        f"serve: MLFLOW_TRACKING_URI={address} mlflow models serve -m {done.model_uri} --env-manager local"
    )
