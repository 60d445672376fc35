"""What a domain hands to the runner: validated data, a method for it, an evaluation, an export."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nearfar.config import RunConfig
from nearfar.errors import ConfigError
from nearfar.runtime import Runtime
from nearfar.training.method import BatchSource, Method


@dataclass(frozen=True)
class DatasetCard:
    """Name, content digest, counts and warnings of a data set that passed its checks."""

    name: str
    digest: str
    source: str
    counts: Mapping[str, int | float]
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Cases:
    """What the test metrics of a run are means of: one value per user, node, series or image.

    Attributes:
        unit: What a case is, in the plural.
        digest: Of the cases and their order; runs are compared case by case where it is equal.
        values: By metric (no prefix), shape ``(N,)`` each.
    """

    unit: str
    digest: str
    values: Mapping[str, NDArray[np.float64]]


class Task(ABC):
    """A data set and a method made ready for each other.

    Constructing one reads and checks the data (``DataError``) and changes nothing on disk.

    Attributes:
        domain: First half of the method names.
        metrics: What :meth:`evaluate` measures.
        protocol: How it measures, for people who compare runs; recorded with the settings as ``eval.<name>``.
        cases_file: What :meth:`test` keeps, by name; ``None`` keeps nothing.
        case_metrics: Those of ``metrics`` that are means over the cases in it; ``None`` is all.
        report_files: What else :meth:`test` may leave for people to look at, by name.
        card: The data set.
    """

    domain: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    protocol: ClassVar[Mapping[str, str]] = {}
    cases_file: ClassVar[str | None] = None
    case_metrics: ClassVar[tuple[str, ...] | None] = None
    report_files: ClassVar[tuple[str, ...]] = ()
    card: DatasetCard

    @abstractmethod
    def __init__(self, config: Any, method_class: type[Any]) -> None: ...

    @abstractmethod
    def build(self, config: RunConfig) -> Method:
        """A freshly initialised method; its initial weights depend on the seed only."""

    @abstractmethod
    def batches(self, config: RunConfig, runtime: Runtime) -> BatchSource:
        """This process's part of the training data."""

    @abstractmethod
    def evaluate(self, method: Method, split: Literal["val", "test"]) -> dict[str, float]:
        """Metrics on a split, named as MLflow wants them (``ndcg_at_10``, no prefix)."""

    def test(self, method: Method, folder: Path) -> dict[str, float]:  # noqa: ARG002 - domains override
        """Metrics on the test split, as :meth:`evaluate`; what they are means of is kept in ``cases_file``.

        Args:
            method: Trained.
            folder: Where to keep it.
        """
        return self.evaluate(method, "test")

    @property
    def kept_files(self) -> tuple[str, ...]:
        """All that :meth:`test` may leave, by name."""
        return (*self.report_files, *([self.cases_file] if self.cases_file else []))

    @classmethod
    def read_cases(cls, path: Path, metrics: Sequence[str]) -> Cases:
        """Read a ``cases_file``.

        Args:
            path: The file.
            metrics: Some of :attr:`case_metrics`.

        Raises:
            DataError: If it cannot be read.
        """
        raise NotImplementedError(f"{cls.__name__} names a cases_file and must read it")

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """How many users, nodes, series or images :meth:`embed` can be asked for."""

    @abstractmethod
    def embed(self, method: Method, rows: NDArray[np.int64]) -> Tensor:
        """Representations of some rows of the data, ``(len(rows), d)``, in evaluation mode.

        Args:
            method: Trained or not.
            rows: Indices below :attr:`num_rows`.
        """

    @abstractmethod
    def export(self, method: Method, folder: Path) -> None:
        """Write the trained model into an empty folder, in a form that loads without pickle."""

    def export_graphs(self, method: Method, folder: Path, kind: str) -> None:  # noqa: ARG002 - domains override
        """Write the trained model into a new folder as graphs that run without nearfar.

        Args:
            method: Trained.
            folder: New or empty.
            kind: ``torch`` (``torch.export``) or ``onnx``.

        Raises:
            ConfigError: If the domain or the method has no such export.
        """
        raise ConfigError(f"format: {self.domain} has no export as {kind}; take safetensors")

    def log_model(self, folder: Path) -> Mapping[str, Any] | None:  # noqa: ARG002 - domains override
        """How the exported folder becomes an MLflow model; ``None`` stores none.

        Returns:
            ``folder``, and ``builder``: a ``module:function`` that, given the folder, returns ``name`` and the
            arguments of ``mlflow.pyfunc.save_model``. It is called when the model is delivered.
        """
        return None
