"""RCAL for anybody's encoder: pre-train, calibrate, fit, predict."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.adapters import as_inputs, representations
from nearfar.calibration.gaussians import ClassGaussians
from nearfar.calibration.rcal.batches import StageBatches
from nearfar.calibration.rcal.config import RCALConfig
from nearfar.calibration.rcal.method import RCAL
from nearfar.classification.classifier import class_logits
from nearfar.classification.predictor import Predictor
from nearfar.classification.trainable import check_trainable
from nearfar.config.hyper import HyperParameters
from nearfar.errors import ConfigError, DataError
from nearfar.labels import encode_labels
from nearfar.runtime import Runtime
from nearfar.training import FitResult, fit

_DATA = "give rows and labels to the trainer"
_HYPER = HyperParameters(
    RCALConfig,
    "RCALTrainer",
    elsewhere={
        **dict.fromkeys(("data", "data_dir", "spoil", "imbalance", "noise", "validation", "encoder"), _DATA),
        "output_dir": "nothing is written",
        "tracking": "nothing is recorded",
    },
    fixed={"data": "given"},
)


class RCALTrainer(Predictor):
    """RCAL (Zhang et al., ICCV 2023) around an encoder.

    Without :meth:`pretrain` the encoder counts as trained already. :meth:`calibrate` keeps its representations and
    finds suspect labels; :meth:`fit` does so first if nobody has.

    Args:
        encoder: Any module that turns a batch of rows into ``(B, m)``; see :mod:`nearfar.adapters` for others. It is
            trained in place.
        rows: Training data, as of :func:`nearfar.adapters.as_inputs`.
        labels: As given, of any hashable type, shape ``(N,)``.
        head: ``(B, m) -> (B, K)``; linear by default.
        verbose: Show progress on standard error.
        **settings: Of :class:`~nearfar.calibration.RCALConfig`, dotted names with double underscores:
            ``gaussians__outlier="lof"``, ``pretrain__epochs=30``, ``device="cpu"``.

    Attributes:
        config: All settings.
        classes_: Labels in the order of the columns of :meth:`predict_proba`, shape ``(K,)``.
        method: What is trained.

    Raises:
        ConfigError: If a setting is unknown or out of bounds.
        DataError: If rows and labels do not go together.

    Example:
        >>> from nearfar.encoders import MLP
        >>> x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
        >>> y = ["high" if value > 0 else "low" for value in x[:, 0]]
        >>> trainer = RCALTrainer(MLP(4, (8,)), x, y, epochs=20, pretrain__epochs=5, head_lr=0.1, device="cpu")
        >>> answer = trainer.pretrain().fit().predict(x)
        >>> bool((answer == np.array(y)).mean() > 0.8)
        True
    """

    def __init__(
        self,
        encoder: nn.Module,
        rows: Any,
        labels: Any,
        *,
        head: nn.Module | None = None,
        verbose: bool = False,
        **settings: Any,
    ) -> None:
        self.config: RCALConfig = _HYPER.config(_HYPER.dotted(settings))
        self.inputs, self.verbose = as_inputs(rows), verbose
        codes, self.classes_ = encode_labels(labels)
        check_trainable(self.inputs, codes, self.classes_)
        representations(
            encoder, self.inputs, torch.zeros(1, dtype=torch.int64)
        )  # one that cannot is refused here
        self._given = torch.as_tensor(codes)
        self._runtime = Runtime.start(self.config.device, deterministic=self.config.deterministic)
        method = RCAL(self.config, encoder, self.inputs, self._given, len(self.classes_), head)
        self.method: RCAL = method.to(self._runtime.device)

    def pretrain(self) -> Self:
        """Stage one: train the encoder without labels for ``pretrain.epochs``.

        Raises:
            ConfigError: If these rows have no views to contrast, or ``pretrain.epochs`` is 0.
        """
        if self.method.pretraining is None:
            raise ConfigError("pretrain.epochs: 0 epochs are none; leave pretrain() out, or give some")
        self._forget()
        epochs = math.ceil(self.config.pretrain.epochs)
        self.method.pretraining_steps = epochs * self.method.epoch
        whole = self.config.pretrain.model_copy(update={"epochs": float(epochs)})
        self._run(self.config.model_copy(update={"epochs": epochs, "pretrain": whole}))
        return self

    def calibrate(self) -> Self:
        """Keep the representations the encoder has now, fit the Gaussians, find suspect labels."""
        self._forget()
        self.method.calibrate()
        return self

    def fit(self) -> Self:
        """Stage two: train encoder and head for ``epochs`` without those of stage one.

        Raises:
            DivergedError: If training stops being finite.
        """
        first = self.config.pretrain
        rest = self.config.model_copy(
            update={
                "epochs": self.config.epochs - math.ceil(first.epochs),
                "pretrain": first.model_copy(update={"epochs": 0.0}),
            }
        )
        self.method.pretraining_steps = 0
        self.fit_result_ = self._run(rest)
        return self

    def logits(self, rows: Any) -> Tensor:
        """Logits of rows, shape ``(M, K)``, on the CPU.

        Args:
            rows: As of :func:`nearfar.adapters.as_inputs`.
        """
        return class_logits(self.method.encoder, self.method.head, as_inputs(rows, like=self.inputs))

    @property
    def gaussians_(self) -> ClassGaussians:
        """The Gaussians, once calibrated.

        Raises:
            DataError: Before :meth:`calibrate` or :meth:`fit`, or if no setting asks for them.
        """
        if self.method.gaussians is None:
            raise DataError("gaussians_: nothing is calibrated yet; call calibrate() or fit()")
        return self.method.gaussians

    @property
    def suspect_labels_(self) -> NDArray[np.bool_]:
        """Rows whose label is not trusted, shape ``(N,)``.

        Raises:
            DataError: As :attr:`gaussians_`.
        """
        suspect: NDArray[np.bool_] = ~self.gaussians_.inlier_mask_.cpu().numpy()
        return suspect

    def state_dict(self) -> dict[str, Any]:
        """Weights, kept representations and mask: tensors alone."""
        return self.method.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Self:
        """Go on from what :meth:`state_dict` returned, of a trainer with the same rows and settings.

        Args:
            state: The tensors.
        """
        self.method.load_state_dict(state)
        if bool(self.method.calibrated):
            self.method.calibrate()
        return self

    def _forget(self) -> None:
        """What was calibrated belongs to another encoder."""
        self.method.calibrated.fill_(False)
        self.method.gaussians = None

    def _run(self, config: RCALConfig) -> FitResult:
        source = StageBatches(self.inputs, self._given, config)
        result = fit(
            self.method,
            source,
            config=config,
            runtime=self._runtime,
            label=type(self).__name__,
            quiet=not self.verbose,
        )
        self.method.eval()
        return result
