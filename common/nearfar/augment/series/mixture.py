"""A learned mixture of operations in the manner of InfoTS (Luo et al., AAAI 2023, "Time series contrastive
learning with information-aware augmentations").

Differs from the paper: the criteria that train the logits (fidelity and variety) are the caller's business.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nearfar.augment.draws import uniform
from nearfar.augment.series.batch import Batch
from nearfar.augment.series.operation import SeriesOp


class MixtureAugment(nn.Module):
    r"""Views that are weighted sums of augmented copies, the weights drawn from learnable logits.

    .. math:: v_i = \sum_k w_{ik}\, t_k(x), \qquad
              w_i = \mathrm{softmax}\bigl((\theta_i + \gamma_i) / \tau\bigr), \quad
              \gamma_{ik} = -\log(-\log u_{ik})

    Every operation is drawn and applied once a call; each view has its own logits and weights, shared by
    the batch. Gradients reach the logits through the weights.

    Args:
        ops: At least one operation; none that masks hidden states, which do not add up.
        num_views: Views a call returns.
        temperature: Of the Gumbel softmax, positive; towards 0 the weights become one-hot.
        hard: One-hot weights forwards, the gradient of the soft ones backwards.

    Attributes:
        logits: Shape ``(num_views, len(ops))``, zeros at first: all operations alike.

    Raises:
        ValueError: If an argument is not as described.

    Example:
        >>> from nearfar.augment.series import Flip, Identity
        >>> mixture = MixtureAugment((Identity(), Flip()))
        >>> mixture.logits.data = torch.tensor([[1e4, 0.0], [0.0, 1e4]])  # one view each
        >>> x = torch.ones(1, 1, 1)
        >>> first, second = mixture(x, torch.Generator().manual_seed(0))
        >>> first.item(), second.item()
        (1.0, -1.0)
    """

    def __init__(
        self, ops: tuple[SeriesOp, ...], *, num_views: int = 2, temperature: float = 1.0, hard: bool = False
    ) -> None:
        super().__init__()
        if not ops or not all(isinstance(op, SeriesOp) for op in ops):
            raise ValueError(f"ops: at least one operation expected, got {ops!r}")
        if num_views < 1:
            raise ValueError(f"num_views: at least 1 expected, got {num_views}")
        if not temperature > 0:
            raise ValueError(f"temperature: a positive number expected, got {temperature}")
        self.ops = tuple(ops)
        self.temperature = temperature
        self.hard = hard
        self.logits = nn.Parameter(torch.zeros(num_views, len(self.ops)))

    def forward(
        self, x: Tensor, generator: torch.Generator, *, valid: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Draw the weights and return the views.

        Args:
            x: Series, shape ``(B, T, F)``.
            generator: Source of every draw.
            valid: Steps that are data, shape ``(B, T)``, bool, one contiguous run a row; others stay.

        Returns:
            ``num_views`` tensors of shape ``(B, T, F)``.

        Raises:
            ValueError: If an operation masks hidden states.
        """
        batch = Batch.of(x, generator, valid)
        weights = self.draw_weights(generator).to(x.dtype)
        views = [torch.zeros_like(x) for _ in range(len(weights))]
        for place, op in enumerate(self.ops):
            params = op.sample(batch)
            if params.hidden_mask is not None:
                raise ValueError(f"ops: {op} masks hidden states; a sum of copies has no such mask")
            copy = params.apply(x)
            views = [view + weight * copy for view, weight in zip(views, weights[:, place], strict=True)]
        if valid is not None:  # the weights sum to 1 only up to rounding
            views = [torch.where(valid[..., None], view, x) for view in views]
        return tuple(views)

    def draw_weights(self, generator: torch.Generator) -> Tensor:
        """Weights of the operations in every view, shape ``(num_views, len(ops))``; each row sums to 1.

        Args:
            generator: Source of the Gumbel noise.
        """
        # Not 0: its logarithm would be infinite.
        draw = uniform(tuple(self.logits.shape), self.logits, generator).clamp(min=1e-12)
        soft = ((self.logits - (-draw.log()).log()) / self.temperature).softmax(1)
        if not self.hard:
            return soft
        one_hot = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
        return one_hot + soft - soft.detach()
