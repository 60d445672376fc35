"""The second stage of a method: a classifier of what its frozen encoder makes of the training rows."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nearfar.adapters import Inputs, device_of
from nearfar.longtail.config import LongTailConfig
from nearfar.longtail.heads import fit_head
from nearfar.longtail.weak_copies import weak_copies


def second_stage(
    method: Any, inputs: Inputs, given: Tensor, num_classes: int, config: LongTailConfig, **settings: Any
) -> nn.Module:
    """Fit it to rows as they are, or to weakly changed copies; rows whose label is not trusted are left out.

    Args:
        method: It has the encoder, and maybe a mask ``kept`` of the rows.
        inputs: Training rows.
        given: Their labels, int64, shape ``(n,)``.
        num_classes: K.
        config: ``head``, ``copies`` and ``seed``.
        **settings: In place of those of ``config.head``.

    Returns:
        ``(B, m) -> (B, K)``, on the device of the method.

    Raises:
        ConfigError: If a setting is unknown or out of bounds.
    """
    features = weak_copies(method.encoder, inputs, config.copies, config.seed)
    kept = getattr(method, "kept", None)
    if kept is not None and len(kept):
        features, given = features[..., kept.cpu(), :], given[kept.cpu()]
    told = {**config.head.model_dump(), **settings}
    return fit_head(features, given, num_classes, seed=config.seed, **told).to(device_of(method))
