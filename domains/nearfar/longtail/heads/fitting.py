"""One call for every classifier of frozen features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nearfar.config.hyper import HyperParameters
from nearfar.config.suggest import suggest
from nearfar.errors import ConfigError
from nearfar.labels.codes import Values
from nearfar.longtail.heads.balanced_lr import balanced_lr
from nearfar.longtail.heads.balanced_softmax import linear_balanced_softmax
from nearfar.longtail.heads.config import KINDS, HeadConfig
from nearfar.longtail.heads.crt import crt
from nearfar.longtail.heads.knn import knn
from nearfar.longtail.heads.labelled_features import LabelledFeatures
from nearfar.longtail.heads.ldam_drw import ldam_drw
from nearfar.longtail.heads.logit_adjustment import adjusted_cross_entropy
from nearfar.longtail.heads.nearest_mean import nearest_mean

_FIT: dict[str, Callable[[LabelledFeatures, HeadConfig, int], nn.Module]] = {
    "balanced_lr": balanced_lr,
    "crt": crt,
    "ldam_drw": ldam_drw,
    "balanced_softmax": linear_balanced_softmax,
    "logit_adjustment": adjusted_cross_entropy,
    "nearest_mean": nearest_mean,
    "knn": knn,
}
_HYPER = HyperParameters(HeadConfig, "fit_head")


def fit_head(
    features: Tensor | NDArray[Any],
    labels: Values,
    num_classes: int,
    *,
    kind: str = "balanced_lr",
    seed: int = 0,
    **settings: Any,
) -> nn.Module:
    """A classifier of frozen features, trained for classes of very different size.

    Args:
        features: Finite, shape ``(n, m)``; or ``(copies, n, m)``, features of rows changed a little in several ways:
            training by gradient takes one copy a pass, in turn, all else takes them together.
        labels: Class codes, shape ``(n,)``. A class may have one row, or none: then it is never predicted.
        num_classes: K.
        kind: One of :data:`~nearfar.longtail.heads.KINDS`.
        seed: Of everything that is drawn; the same seed gives the same head.
        **settings: Of :class:`~nearfar.longtail.heads.HeadConfig`.

    Returns:
        ``(B, m) -> (B, K)``, logits, on the device and in the precision of the features, in evaluation mode. An
        ``nn.Linear`` for ``balanced_lr``, ``crt``, ``balanced_softmax``, ``logit_adjustment`` and the Euclidean
        ``nearest_mean``; a :class:`~nearfar.longtail.heads.CosineLinear` for ``ldam_drw`` and ``nearest_mean``; a
        :class:`~nearfar.longtail.heads.NeighborVote` for ``knn``. The logit of a class without rows is minus infinity.

    Raises:
        ConfigError: If the kind or a setting is unknown or out of bounds.
        DataError: If features are not finite, labels are no class codes below K, one a row, or there is no row.
        DivergedError: If training by gradient stops being finite.
        MissingDependencyError: If ``balanced_lr`` finds no scikit-learn.

    Example:
        >>> import torch
        >>> features = torch.tensor([[0.0], [0.2], [0.1], [3.0]])
        >>> head = fit_head(features, [0, 0, 0, 1], 2, kind="nearest_mean", metric="euclidean")
        >>> head(torch.tensor([[0.4], [2.0]])).argmax(1).tolist()
        [0, 1]
    """
    if kind not in KINDS:
        otherwise = f"choose from {', '.join(KINDS)}"
        raise ConfigError(f"kind: {kind!r} is unknown; {suggest(str(kind), KINDS, otherwise)}")
    config = _HYPER.config(_HYPER.dotted({"kind": kind, **settings}))
    # Evaluations call it where gradients are off.
    with torch.enable_grad():
        return _FIT[kind](LabelledFeatures.of(features, labels, num_classes), config, seed).eval()
