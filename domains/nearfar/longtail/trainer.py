"""SBCL for anybody's encoder: fit, embed, classify."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from nearfar.adapters import as_inputs, representations
from nearfar.classification.classifier import class_logits
from nearfar.classification.predictor import Predictor
from nearfar.classification.row_batches import RowBatches
from nearfar.classification.trainable import check_trainable
from nearfar.config.hyper import HyperParameters
from nearfar.errors import DataError
from nearfar.labels import encode_labels
from nearfar.longtail.sbcl.config import SBCLConfig
from nearfar.longtail.sbcl.method import SBCL
from nearfar.longtail.second_stage import second_stage
from nearfar.runtime import Runtime
from nearfar.training import FitResult, fit

_DATA = "give rows and labels to the trainer"
_HYPER = HyperParameters(
    SBCLConfig,
    "SBCLTrainer",
    elsewhere={
        **dict.fromkeys(("data", "data_dir", "imbalance", "noise", "validation", "encoder"), _DATA),
        "output_dir": "nothing is written",
        "tracking": "nothing is recorded",
    },
    fixed={"data": "given"},
)


class SBCLTrainer(Predictor):
    """SBCL (Hou et al., ICCV 2023) around an encoder.

    :meth:`fit` trains the encoder, :meth:`fit_head` a classifier of its frozen representations, which :meth:`predict`
    does first if nobody has.

    Args:
        encoder: Any module that turns a batch of rows into ``(B, m)``; see :mod:`nearfar.adapters` for others. It is
            trained in place.
        rows: Training data, as of :func:`nearfar.adapters.as_inputs`; they need two views.
        labels: Of any hashable type, shape ``(N,)``.
        verbose: Show progress on standard error.
        **settings: Of :class:`~nearfar.longtail.SBCLConfig`, dotted names with double underscores:
            ``subclasses__delta=20``, ``head__kind="crt"``, ``device="cpu"``.

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
        >>> trainer = SBCLTrainer(MLP(4, (8,)), x, y, epochs=6, warmup_epochs=2, subclasses__every=2, device="cpu")
        >>> embeddings = trainer.fit().embed(x)
        >>> embeddings.shape, sorted(set(trainer.subclasses_.tolist())) == list(range(int(trainer.sizes_.numel())))
        (torch.Size([60, 8]), True)
    """

    def __init__(
        self, encoder: nn.Module, rows: Any, labels: Any, *, verbose: bool = False, **settings: Any
    ) -> None:
        self.config: SBCLConfig = _HYPER.config(_HYPER.dotted(settings))
        self.inputs, self.verbose = as_inputs(rows), verbose
        codes, self.classes_ = encode_labels(labels)
        check_trainable(self.inputs, codes, self.classes_)
        representations(
            encoder, self.inputs, torch.zeros(1, dtype=torch.int64)
        )  # one that cannot is refused here
        self._given = torch.as_tensor(codes)
        self._runtime = Runtime.start(self.config.device, deterministic=self.config.deterministic)
        method = SBCL(self.config, encoder, self.inputs, self._given, len(self.classes_))
        self.method: SBCL = method.to(self._runtime.device)
        self._head: nn.Module | None = None

    def fit(self) -> Self:
        """Train the encoder for ``epochs``.

        Raises:
            ConfigError: If these rows have no views to contrast.
            DivergedError: If training stops being finite.
        """
        source = RowBatches(self.inputs, self._given, self.config.batch_size, self.config.seed)
        self._head = None
        self.fit_result_: FitResult = fit(
            self.method,
            source,
            config=self.config,
            runtime=self._runtime,
            label=type(self).__name__,
            quiet=not self.verbose,
        )
        self.method.eval()
        return self

    def embed(self, rows: Any) -> Tensor:
        """Representations, shape ``(M, m)``, on the CPU.

        Args:
            rows: As of :func:`nearfar.adapters.as_inputs`.

        Raises:
            DataError: If they are of another kind, or a representation is not finite.
        """
        return representations(self.method.encoder, as_inputs(rows, like=self.inputs))

    def fit_head(self, **settings: Any) -> Self:
        """Train a classifier of frozen representations of the training rows.

        Args:
            **settings: Of :class:`~nearfar.longtail.HeadConfig`, in place of those of ``head``.

        Raises:
            ConfigError: If a setting is unknown or out of bounds.
        """
        self._head = second_stage(
            self.method, self.inputs, self._given, len(self.classes_), self.config, **settings
        )
        return self

    def logits(self, rows: Any) -> Tensor:
        """Logits of rows, shape ``(M, K)``, on the CPU; of :meth:`fit_head`, which is called first if nobody has.

        Args:
            rows: As of :func:`nearfar.adapters.as_inputs`.
        """
        if self._head is None:
            self.fit_head()
        assert self._head is not None
        return class_logits(self.method.encoder, self._head, as_inputs(rows, like=self.inputs))

    @property
    def subclasses_(self) -> Tensor:
        """Subclass of every training row, numbered over all classes, int64, shape ``(N,)``.

        Raises:
            DataError: Before the first clustering, or if no setting asks for one.
        """
        self._grouped()
        return self.method.subclasses.cpu()

    @property
    def sizes_(self) -> Tensor:
        """Rows of every subclass, int64, shape ``(S,)``; rows whose label is not trusted are in none.

        Raises:
            DataError: As :attr:`subclasses_`.
        """
        self._grouped()
        kept = self.method.kept.cpu()
        return torch.bincount(self.method.subclasses.cpu()[kept], minlength=int(self.method.parts.sum()))

    @property
    def temperatures_(self) -> Tensor:
        """tau_2 of every class, shape ``(K,)``.

        Raises:
            DataError: As :attr:`subclasses_`.
        """
        self._grouped()
        return self.method.temperatures.cpu()

    def state_dict(self) -> dict[str, Any]:
        """Weights, subclasses and temperatures: tensors alone."""
        return self.method.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> Self:
        """Go on from what :meth:`state_dict` returned, of a trainer with the same rows and settings.

        Args:
            state: The tensors.
        """
        self.method.load_state_dict(state)
        self._head = None
        return self

    def _grouped(self) -> None:
        if not bool(self.method.parts.any()):
            raise DataError(
                "subclasses_: none have been found yet; call fit(), with epochs above warmup_epochs and subclasses "
                "enabled"
            )
