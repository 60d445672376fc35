"""AutoTCL as an estimator: ``fit`` on arrays, then ``transform``."""

# ruff: noqa: N803 - X is scikit-learn's name

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nearfar.allocation_limit import AllocationLimit
from nearfar.config.hyper import Adjustable, HyperParameters
from nearfar.errors import ConfigError, DataError
from nearfar.optional import require
from nearfar.runtime import Runtime, initial_weights, resolve_device
from nearfar.saved import UNFIT, SavedFormat
from nearfar.timeseries.autotcl.config import AutoTCLConfig
from nearfar.timeseries.autotcl.method import AutoTCL
from nearfar.timeseries.checks import as_float32, check_collection, constant_channels
from nearfar.timeseries.datasets import ClassificationDataset
from nearfar.timeseries.encoder.pooling import Pooling, pool
from nearfar.timeseries.encoder.series_encoder import SeriesEncoder
from nearfar.training import FitResult, fit

Series: TypeAlias = "NDArray[Any] | Tensor | Sequence[NDArray[Any]]"
Layout: TypeAlias = Literal["NTC", "NCT"]
BATCH = 128
ESTIMATOR = SavedFormat("time series estimator", "estimator.json")
HYPER = HyperParameters(
    AutoTCLConfig,
    "AutoTCLEncoder",
    {
        "data": "give the series to fit",
        "data_dir": "give the series to fit",
        "output_dir": "name the folder in save",
        "tracking": "an estimator records nothing",
        "selection": "nothing is held out, the last weights (or their mean) stay",
        "checkpoint": "an estimator keeps none",
        "features": "all channels are used",
        "target": "nothing is forecast",
        "horizons": "nothing is forecast",
        "calendar": "give features of time as channels",
        "independent": "give channels as series of their own",
        "probe": "use forecast_scores",
        "classifier": "put a classifier behind it, for example with sklearn.pipeline.make_pipeline",
    },
    {"data": "given", "independent": False},
)


class AutoTCLEncoder(Adjustable[AutoTCLConfig]):
    """AutoTCL (Zheng et al., ICLR 2024) for series in memory; follows scikit-learn's conventions.

    Equal settings, data, seed, library versions and thread count give equal weights on the CPU, bit for bit.

    Args:
        **hyper: Fields of ``AutoTCLConfig``: flat (``epochs=50``), nested (``encoder={"dim": 64}``), dotted or, as
            scikit-learn writes it, ``encoder__dim=64``. ``epochs=0`` gives the encoder as it is drawn.

    Raises:
        ConfigError: If a setting is unknown (names the nearest one) or out of bounds.

    Attributes:
        encoder_: Trained encoder.
        n_features_in_: Channels.
        fit_result_: Steps of the last training.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(8, 30, 2))
        >>> encoder = AutoTCLEncoder(epochs=1, encoder__dim=4, encoder__hidden=4, encoder__depth=2)
        >>> encoder.fit_transform(x).shape
        (8, 4)
    """

    hyper = HYPER

    def __init__(self, **hyper: Any) -> None:
        super().__init__(**hyper)
        self._encoder: SeriesEncoder | None = None
        self._center = self._scale = torch.zeros(0)
        self.fit_result_: FitResult | None = None

    @property
    def encoder_(self) -> SeriesEncoder:
        """The trained encoder, in evaluation mode.

        Raises:
            DataError: If nothing was fitted yet.
        """
        if self._encoder is None:
            raise DataError(f"this {type(self).__name__} is not fitted yet; call fit first")
        return self._encoder

    def __sklearn_is_fitted__(self) -> bool:
        return self._encoder is not None

    def __sklearn_tags__(self) -> Any:
        tags = require("sklearn.utils", "pipelines")
        return tags.Tags(
            estimator_type=None,
            target_tags=tags.TargetTags(required=False),
            transformer_tags=tags.TransformerTags(),
            input_tags=tags.InputTags(two_d_array=True, three_d_array=True, allow_nan=True),
        )

    @property
    def n_features_in_(self) -> int:
        """Channels it was fitted on."""
        return self.encoder_.num_channels

    def fit(
        self, X: Series, y: object = None, *, layout: Layout | None = None, verbose: bool = False
    ) -> AutoTCLEncoder:
        """Train from scratch; labels are not looked at.

        Args:
            X: Series, shape ``(N, T, F)``, ``(N, T)`` for one channel, or a list of ``(T, F)`` of different lengths.
                NaN is missing. Channels are scaled by mean and deviation of all of them.
            y: Of no effect.
            layout: ``NTC``: the second axis is time, whatever it looks like; ``NCT``: the last one is. By default
                arrays that look like ``NCT`` are refused.
            verbose: Show progress on standard error.

        Returns:
            The estimator.

        Raises:
            DataError: If the series cannot be used.
            DivergedError: If training stops being finite; the estimator stays as it was.
            OutOfMemoryError: If a step does not fit in memory.
        """
        config = self.config
        values = _array("X", X, layout)
        constant_channels("X", values)
        center, scale = _statistics(values)
        x = self._scaled("X", values, center, scale)
        y = torch.zeros(len(x), dtype=torch.int64)
        dataset = ClassificationDataset("given", "memory", x, y, x, y, ("none",))
        runtime = Runtime.start(config.device, deterministic=config.deterministic)
        try:
            method = AutoTCL(config, dataset).to(runtime.device)
            source = AutoTCL.batches(config, dataset, runtime)
            result = fit(
                method,
                source,
                config=config,
                runtime=runtime,
                label=type(self).__name__,
                quiet=not verbose,
            )
        finally:
            runtime.close()
        self._encoder, self._center, self._scale = method.trained.eval(), center, scale
        self.fit_result_ = result
        return self

    def fit_transform(
        self, X: Series, y: object = None, *, layout: Layout | None = None
    ) -> NDArray[np.float32]:
        """Train, and represent what was trained on.

        Args:
            X: As of :meth:`fit`.
            y: Of no effect.
            layout: As of :meth:`fit`.

        Returns:
            Shape ``(N, D)``.
        """
        return self.fit(X, y, layout=layout).transform(X, layout=layout)

    def transform(self, X: Series, *, layout: Layout | None = None) -> NDArray[np.float32]:
        """One vector a series: the maximum over its steps.

        Args:
            X: As of :meth:`fit`.
            layout: As of :meth:`fit`.

        Returns:
            Shape ``(N, D)``; never NaN.

        Raises:
            DataError: If nothing was fitted, or the series cannot be used.
        """
        return self.encode(X, layout=layout)

    @torch.no_grad()
    def encode(
        self, X: Series, pooling: Pooling = "max", *, layout: Layout | None = None
    ) -> NDArray[np.float32]:
        """Representations, pooled over time as asked.

        Args:
            X: As of :meth:`fit`.
            pooling: ``max``, ``mean`` or ``last``: one vector a series; ``none``: of every step; a number: maximum
                over so many steps around each; ``multiscale``: windows of many lengths, side by side.
            layout: As of :meth:`fit`.

        Returns:
            Shape ``(N, D)``, or ``(N, T, D)`` where every step has its own; zero where a step is missing.

        Raises:
            DataError: If nothing was fitted, or the series cannot be used.
            ConfigError: If there is no such pooling.
        """
        encoder = self.encoder_
        values = _array("X", X, layout, width=encoder.num_channels)
        x = self._scaled("X", values, self._center, self._scale)
        device = next(encoder.parameters()).device
        found = []
        for part in x.split(BATCH):
            valid = ~part.isnan().any(2)
            z = encoder.represent(part.to(device)).cpu()
            found.append(pool(z, pooling, valid))
        return torch.cat(found).numpy()

    @staticmethod
    def _scaled(name: str, values: NDArray[np.float64], center: Tensor, scale: Tensor) -> Tensor:
        return torch.from_numpy(as_float32(name, (values - center.numpy()) / scale.numpy()))

    def save(self, folder: Path | str) -> None:
        """Write weights, scales and settings into a new or empty folder; no pickle.

        Args:
            folder: Where to.

        Raises:
            DataError: If nothing was fitted, or the folder holds something else.
        """
        encoder = self.encoder_
        tensors = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
        tensors |= {"center": self._center, "scale": self._scale}
        ESTIMATOR.write(Path(folder), tensors, {"arguments": encoder.arguments, "hyper": self._hyper})

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> AutoTCLEncoder:
        """Read what :meth:`save` wrote.

        Args:
            folder: Written by :meth:`save`.
            device: Where to compute.

        Raises:
            DataError: If it is no saved estimator, or is damaged.
        """
        tensors, description = ESTIMATOR.read(Path(folder))
        try:
            made = cls(**description["hyper"])
            with initial_weights(0), AllocationLimit(tensors, ESTIMATOR.description):
                encoder = SeriesEncoder(**description["arguments"])
            prefix = "encoder."
            encoder.load_state_dict(
                {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
            )
            made._center, made._scale = tensors["center"], tensors["scale"]
        except UNFIT as error:
            raise DataError(f"{folder} is not a saved {cls.__name__}: {error}; save it again") from None
        made._encoder = encoder.to(resolve_device(device)).eval()
        return made


def _array(name: str, X: Series, layout: Layout | None, width: int | None = None) -> NDArray[np.float64]:
    """Checked, shape ``(N, T, F)``; shorter series end in NaN."""
    if layout not in (None, "NTC", "NCT"):
        raise ConfigError(f"layout: NTC or NCT expected, got {layout!r}")
    try:
        values = _stacked(X)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: an array of numbers or a list of them expected: {error}") from error
    if values.ndim == 2:
        values = values[:, :, None]
    elif values.ndim == 3 and layout == "NCT":
        values = values.transpose(0, 2, 1)
    if width is not None and values.ndim == 3 and values.shape[2] != width:
        hint = "; layout='NCT' says that time is the last axis" if values.shape[1] == width else ""
        raise DataError(f"{name}: {width} channels expected as in fit, got shape {values.shape}{hint}")
    check_collection(name, values, layout_is_certain=layout is not None)
    return np.ascontiguousarray(values)


def _stacked(X: Series) -> NDArray[np.float64]:
    if isinstance(X, Tensor):
        return _real(X.detach().cpu() if X.is_complex() else X.detach().cpu().double())
    if not isinstance(X, (list, tuple)):
        return _real(X)
    rows = [_real(row) for row in X]
    rows = [row[:, None] if row.ndim == 1 else row for row in rows]
    if not rows or {row.ndim for row in rows} != {2} or len({row.shape[1] for row in rows}) != 1:
        raise ValueError("every series needs shape (T, F) with the same F")
    longest = max(len(row) for row in rows)
    padded = np.full((len(rows), longest, rows[0].shape[1]), np.nan)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return padded


def _real(values: Any) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind in "cMm":  # NumPy would drop imaginary parts, and count seconds
        raise TypeError(f"real numbers, got {array.dtype}")
    return array.astype(np.float64)


def _statistics(values: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel, shape ``(F,)`` each; a constant one is not scaled."""
    center, scale = np.nanmean(values, axis=(0, 1)), np.nanstd(values, axis=(0, 1))
    return torch.from_numpy(center), torch.from_numpy(np.where(scale > 0, scale, 1.0))
