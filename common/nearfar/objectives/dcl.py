r"""NT-Xent without the positive in its denominator (DCL, Yeh et al., ECCV 2022, eq. 6).

.. math:: \ell_i = -s_{i \pi(i)} + \log \sum_{j \neq i, \pi(i)} e^{s_{ij}}

over the 2 N rows of both views. The pull on the positive is then always 1, however easy the pair; NT-Xent's row is
softplus of DCL's.
"""

from __future__ import annotations

from nearfar.objectives.ntxent import NTXent


class DCL(NTXent):
    """Decoupled contrastive loss; arguments as :class:`NTXent`.

    Example:
        >>> import torch
        >>> round(DCL()(torch.ones(4, 2), torch.ones(4, 2)).item(), 4)  # log 6
        1.7918
    """

    include_positive = False
