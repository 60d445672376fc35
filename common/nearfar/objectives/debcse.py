r"""Pairs drawn by meaning, against the bias of the surface (after DebCSE, Miao et al., CIKM 2023).

.. math:: \ell_i = \frac{1}{2} \sum_{p \in \{i, j_i\}} \log \Bigl( 1 + \sum_{n \in A(i)} e^{s_{in} - s_{ip}} \Bigr),
          \qquad s_{ij} = \cos(q_i, k_j) / \tau

The positives of row i are its own other view and that of a drawn row j_i, each in a softmax with the drawn negatives
A(i); :mod:`nearfar.sampling.propensity` says how they are drawn, and what of that is our own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.checks import check_counts, check_matrix, check_positive, check_vector
from nearfar.objectives.objective import Objective
from nearfar.objectives.row_tiles import by_row_tiles
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.views import at_least_float32, check_views
from nearfar.sampling.propensity import PairRule, draw_pairs


class DebCSE(Objective):
    """InfoNCE over drawn pairs.

    Args:
        temperature: What cosines are divided by.
        gamma: Exponent of the similarity of meaning in the chance to be drawn.
        surface_temperature: Of the propensity by the surface; a large one ignores it.
        guard: Negatives are less alike in meaning, (1 + cos) / 2, than this.
        positives: The drawn positive is one of so many rows, those most alike in meaning.
        negatives: Drawn for a row, R.
        floor: Smallest propensity that is divided by.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> x = torch.eye(4)
        >>> loss = DebCSE(negatives=2)(x, x, x, torch.zeros(4), torch.Generator().manual_seed(0))
        >>> round(loss.item(), 4)  # log(1 + 2 e^-10) and log(1 + 2)
        0.5494
    """

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        gamma: float = 1.0,
        surface_temperature: float = 0.1,
        guard: float = 0.9,
        positives: int = 4,
        negatives: int = 32,
        floor: float = 1e-3,
    ) -> None:
        check_positive(temperature=temperature)
        check_counts(positives=positives, negatives=negatives)
        rule = PairRule(gamma, surface_temperature, floor, positives, guard)
        super().__init__(
            temperature=temperature,
            gamma=gamma,
            surface_temperature=surface_temperature,
            guard=guard,
            positives=positives,
            negatives=negatives,
            floor=floor,
        )
        self.rule = rule

    def forward(
        self, first: Tensor, second: Tensor, side: Tensor, surface: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Mean over the rows that have a negative; 0 if none has.

        Args:
            first: Anchors, shape ``(N, d)``, N at least 2.
            second: Keys, same shape; row i shows the sample of row i of ``first``.
            side: What says how alike rows are in meaning, shape ``(N, p)``; no gradient reaches it.
            surface: One score a row: length, degree, popularity; shape ``(N,)``.
            rng: Source of the draws.

        Returns:
            Scalar. Half precision is computed in float32.

        Raises:
            ValueError: If a shape, dtype or number does not fit.
        """
        check_views(2, first=first, second=second)
        check_matrix("side", side, shape="(N, p)", num_rows=len(first))
        check_vector("surface", surface, torch.Size(), len(first), lowest=-torch.inf)
        with torch.autocast(first.device.type, enabled=False):
            count = self.config["negatives"]
            drawn, negatives = draw_pairs(side.detach(), surface, rng, count=count, rule=self.rule)
            q, k = (smooth_normalize(at_least_float32(z)) for z in (first, second))
            q = q / self.config["temperature"]
            columns = torch.cat(
                [torch.arange(len(q), device=q.device)[:, None], drawn[:, None], negatives], 1
            )
            width = columns.shape[1] * q.shape[1]

            def loss_of_rows(rows: Tensor, chosen: Tensor) -> Tensor:
                logits = (k[chosen.clamp(min=0)] @ rows[:, :, None])[:, :, 0]
                among = logits[:, 2:].logsumexp(1)
                return torch.nn.functional.softplus(among[:, None] - logits[:, :2], threshold=40).mean(1)

            losses = by_row_tiles(loss_of_rows, q, columns, width=width)
            counts = (negatives[:, 0] >= 0).to(losses.dtype)
            return (losses * counts).sum() / counts.sum().clamp(min=1)
