"""Optional packages: one table of what they are for, how to get them, and how to tell they work.

Heavy or rarely needed packages are imported inside functions through :func:`require`, so that
``import nearfar.<domain>`` stays cheap and works where they are absent.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from types import ModuleType

from nearfar.errors import MissingDependencyError


@dataclass(frozen=True)
class OptionalPackage:
    """One optional package: import name, distribution name, purpose and exact repair command."""

    module: str
    distribution: str
    purpose: str
    command: str


def _extra(module: str, distribution: str, extra: str, purpose: str) -> OptionalPackage:
    return OptionalPackage(module, distribution, purpose, f'pip install "nearfar[{extra}]"')


PACKAGES: dict[str, OptionalPackage] = {
    package.module: package
    for package in (
        _extra("pandas", "pandas", "recsys", "data frames in and out of the recommender"),
        _extra("usearch", "usearch", "ann", "approximate nearest items in large catalogues"),
        _extra("scipy", "scipy", "recsys", "sparse matrices"),
        _extra("sklearn", "scikit-learn", "calibration", "probes, neighbours and estimator conventions"),
        _extra("torch_geometric", "torch-geometric", "graph", "graph data and encoders"),
        _extra("tsai", "tsai", "timeseries", "time series backbones and callbacks"),
        _extra("kornia", "kornia", "images", "turning the hue of images"),
        _extra("mlflow", "mlflow", "track", "experiment tracking"),
        _extra("matplotlib", "matplotlib", "track", "plots"),
        _extra("filelock", "filelock", "track", "serialised first touch of the tracking store"),
        _extra("optuna", "optuna", "tune", "hyper-parameter search"),
        _extra("cleanlab", "cleanlab", "bench", "finding wrong labels, to compare with"),
        _extra("imblearn", "imbalanced-learn", "bench", "resampling of rare classes, to compare with"),
        _extra("onnx", "onnx", "onnx", "exported models as ONNX"),
        _extra("onnxscript", "onnxscript", "onnx", "writing ONNX"),
        _extra("onnxruntime", "onnxruntime", "onnx", "running ONNX"),
        OptionalPackage("pyarrow", "pyarrow", "reading Parquet files", "pip install pyarrow"),
        OptionalPackage("triton", "triton", "the fused CUDA kernels of the contrast", "pip install triton"),
        OptionalPackage(
            "recbole",
            "recbole",
            "the packaged ml-100k data and the comparison with RecBole's models",
            'pip install "nearfar[recbole]" && pip install --no-deps recbole==1.2.1',
        ),
        OptionalPackage(
            "auto_LiRPA",
            "auto-LiRPA",
            "independent verification of certified bounds",
            'pip install "nearfar[lirpa]" && pip install --no-deps auto-LiRPA==0.3',
        ),
    )
}


def installed(module: str) -> bool:
    """Whether ``module`` can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def version(distribution: str) -> str | None:
    """Installed version of a distribution, ``None`` when it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def missing(module: str, feature: str) -> MissingDependencyError:
    """The error that says which feature needs ``module`` and the command that installs it."""
    package = PACKAGES.get(module)
    command = package.command if package else f"pip install {module}"
    return MissingDependencyError(f"{feature} needs {module}, which is not installed: {command}")


def require(module: str, feature: str) -> ModuleType:
    """Import an optional module, or say what needs it and how to get it.

    Args:
        module: Import name, dotted submodules allowed (``"mlflow.data"``).
        feature: What the caller was about to do, used as the subject of the message.

    Returns:
        The imported module.

    Raises:
        MissingDependencyError: If the package is not installed.

    Example:
        >>> require("json", "reading settings").__name__
        'json'
    """
    top = module.partition(".")[0]
    if not installed(top):
        raise missing(top, feature)
    return importlib.import_module(module)
