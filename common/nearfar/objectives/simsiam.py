r"""BYOL without the momentum copy (SimSiam, Chen and He, CVPR 2021, eq. 1-4).

Both p and z come from the encoder that is trained, p through a predictor; the gradient that stops at z is all
that prevents collapse. The arithmetic is :func:`nearfar.objectives.byol.byol_loss`'s, which stops it.

Differs from the paper: 2 - 2 cos instead of -cos, for one scale with BYOL: the same minimum, twice the
gradient. With plain SGD, halve the published learning rate or the weight of the loss.
"""

from __future__ import annotations

from nearfar.objectives.byol import BYOL, byol_loss

simsiam_loss = byol_loss


class SimSiam(BYOL):
    """:func:`simsiam_loss` as a module: called with ``p1, z2, p2, z1``, all from the same encoder.

    Example:
        >>> import torch
        >>> z1, z2 = torch.eye(2), torch.eye(2)
        >>> p1, p2 = -z1, -z2  # a predictor that turns everything around
        >>> SimSiam()(p1, z2, p2, z1).item()
        4.0
    """
