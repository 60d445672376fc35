r"""Compare only in the features that matter to a pair of classes (after Hydra, renamed SimLAP).

.. math:: \ell_i = -\log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}, \qquad
          s_{ij} = \cos(g_i \odot q_i, \; g_i \odot k_j) / \tau, \qquad
          g_i = \sigma\big(\mathrm{MLP}(e_a + e_b, \, |e_a - e_b|)\big)

with a learned embedding e of every class, for the classes a and b of the anchor and its positive. Here the positive is
the other view of the row, so both are its label; a row without a label has a gate of ones. With all gates one this is
InfoNCE, one direction.

The gate and its code are our reading: of the paper only the idea was at hand, that a vector made from a pair of
classes switches features on and off and is trained by the contrastive loss. Positives of other classes are not offered.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nearfar.checks import check_counts, check_ids, check_temperature
from nearfar.objectives.contrast import Temperature
from nearfar.objectives.row_tiles import by_row_tiles
from nearfar.objectives.similarity import smooth_normalize
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.objectives.views import at_least_float32, check_views


def gated_infonce_loss(
    first: Tensor, second: Tensor, gates: Tensor, *, temperature: float | Tensor = 0.1
) -> Tensor:
    """InfoNCE of one direction, both sides of a cosine multiplied by the anchor's gate.

    Args:
        first: Anchors, shape ``(N, d)``.
        second: Keys, same shape as ``first``.
        gates: What to multiply features by, for every anchor, same shape as ``first``.
        temperature: A positive number or scalar tensor.

    Returns:
        Scalar. Half precision is computed in float32.

    Raises:
        ValueError: If a shape, dtype or value does not fit.

    Example:
        >>> z, one = torch.ones(4, 2), torch.tensor([[1.0, 0.0]])
        >>> round(gated_infonce_loss(z, z, one.expand(4, 2)).item(), 4)  # equal rows: log 4
        1.3863
    """
    check_views(first=first, second=second, gates=gates)
    check_temperature(temperature)
    with torch.autocast(first.device.type, enabled=False):
        # Rows of unit length first: a cosine is the same, and squares stay in range.
        anchors, keys = (smooth_normalize(at_least_float32(x)) for x in (first, second))
        squares = keys.square()

        def of_anchors(q: Tensor, own: Tensor, gate: Tensor) -> Tensor:
            gated = smooth_normalize(gate * q) * gate
            lengths = gate.square() @ squares.mT + 1e-24
            cosine = (gated @ keys.mT) * lengths.rsqrt()
            positive = (gated * own).sum(1) * ((gate * own).square().sum(1) + 1e-24).rsqrt()
            return (cosine / temperature).logsumexp(1) - positive / temperature

        width = 4 * len(keys)
        return by_row_tiles(of_anchors, anchors, keys, at_least_float32(gates), width=width).mean()


class PairGate(nn.Module):
    """A gate in (0, 1) for every feature, from a pair of classes in either order.

    Args:
        dim: Features to switch.
        num_classes: Labels are below this.
        embedding: Numbers that describe a class.

    Raises:
        ValueError: If a number is below 1.

    Example:
        >>> gate, a, b = PairGate(5, 3), torch.tensor([0]), torch.tensor([2])
        >>> gate(a, b).shape, bool((gate(a, b) == gate(b, a)).all())
        (torch.Size([1, 5]), True)
    """

    def __init__(self, dim: int, num_classes: int, embedding: int = 64) -> None:
        super().__init__()
        check_counts(dim=dim, num_classes=num_classes, embedding=embedding)
        self.num_classes = num_classes
        self.embed = nn.Embedding(num_classes, embedding)
        self.mlp = nn.Sequential(nn.Linear(2 * embedding, embedding), nn.ReLU(), nn.Linear(embedding, dim))

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Gates, shape ``(N, dim)``; ones where a label is negative.

        Args:
            a: Labels, int64 of shape ``(N,)``.
            b: Labels, same shape as ``a``.

        Raises:
            ValueError: If a shape, dtype or, on the CPU, a label does not fit.
        """
        for name, labels in (("a", a), ("b", b)):
            check_ids(name, labels, len(a), below=self.num_classes)
        x, y = (self.embed(labels.clamp(0, self.num_classes - 1)) for labels in (a, b))
        gate: Tensor = self.mlp(torch.cat([x + y, (x - y).abs()], -1)).sigmoid()
        return torch.where(((a >= 0) & (b >= 0))[:, None], gate, 1)


class Hydra(SoftmaxObjective):
    """:func:`gated_infonce_loss` with gates of the rows' classes.

    Args:
        dim: Features of the views.
        num_classes: Labels are below this.
        temperature: A positive number, or a module that returns one, such as ``LearnableTemperature()``.
        embedding: Numbers that describe a class.

    Raises:
        ValueError: If an argument does not fit.

    Example:
        >>> loss = Hydra(2, num_classes=3)
        >>> round(loss(torch.ones(4, 2), torch.ones(4, 2), torch.tensor([0, 1, 2, -1])).item(), 4)
        1.3863
    """

    def __init__(
        self, dim: int, num_classes: int, temperature: Temperature = 0.1, embedding: int = 64
    ) -> None:
        super().__init__(temperature, "auto", None, dim=dim, num_classes=num_classes, embedding=embedding)
        self.gate = PairGate(dim, num_classes, embedding)

    def forward(self, first: Tensor, second: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            first: Anchors, shape ``(N, dim)``.
            second: Keys, same shape as ``first``.
            labels: Class of every row, int64 of shape ``(N,)``; negative for none.

        Raises:
            ValueError: If a shape, dtype or, on the CPU, a label does not fit.
        """
        check_views(1, self.config["dim"], first=first, second=second)
        check_ids("labels", labels, len(first), below=self.config["num_classes"])
        with torch.autocast(first.device.type, enabled=False):
            gates = self.gate(labels, labels).to(at_least_float32(first))
            a, b = (at_least_float32(x) for x in (first, second))
            return gated_infonce_loss(a, b, gates, temperature=self._current_temperature())
