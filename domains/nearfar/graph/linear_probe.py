"""One linear layer trained by Adam on frozen embeddings, the probe of the official programs.

Used by GRACE (Zhu et al., 2020), GCA (Zhu et al., 2021), ProGCL (Xia et al., 2022), COSTA (Zhang et al., 2022) and
POT (Yu et al., 2023): 3,000 steps, 5,000 for COSTA.

Two defects of those programs change reported numbers, and are not in this one:

* With the public splits the tuple (train, validation, test) is unpacked as (train, test, validation): the step is
  selected on the 1,000 test nodes and the figure reported is that of the 500 validation nodes. For comparison only,
  call this function with the test mask as ``select_mask`` and score the validation nodes.
* With random splits COSTA's program swaps the last two parts: 80 % of the nodes select the step, 10 % are tested
  on, and every call draws them again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nearfar.errors import ConfigError, DataError
from nearfar.graph.checks import check_probe

LEARNING_RATE = 0.01
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def linear_probe(
    z: Tensor,
    y: Tensor,
    train_mask: Tensor,
    select_mask: Tensor,
    *,
    steps: int = 3000,
    every: int = 20,
    generator: torch.Generator,
) -> Tensor:
    """Predict the class of every node with the linear layer of the best step.

    Args:
        z: Embeddings as they are, shape ``(n, d)``.
        y: Classes, int64, shape ``(n,)``.
        train_mask: Nodes to learn from, bool, shape ``(n,)``.
        select_mask: Nodes whose micro F1 selects the step, the first of equals; bool, shape ``(n,)``.
        steps: Steps of Adam, each on all training nodes.
        every: Steps from one selection to the next.
        generator: Source of the initial weights.

    Returns:
        Classes, int64, shape ``(n,)``.

    Raises:
        ConfigError: If no step would be selected from.
        DataError: If something is not as described, a part is empty, or an embedding is not finite.
    """
    if not 1 <= every <= steps:
        raise ConfigError(f"every: a number from 1 to steps={steps} expected, got {every}")
    check_probe(z, y, train_mask=train_mask, select_mask=select_mask)
    if not (train_mask.any() and select_mask.any()):
        raise DataError("the linear probe needs a training and a selecting node at least; correct the masks")
    z = z.detach()
    num_classes = int(y.max()) + 1
    weight = torch.empty(num_classes, z.shape[1], device=generator.device)
    torch.nn.init.xavier_uniform_(weight, generator=generator)
    # The bias is the last row: one parameter, one gradient, one Adam. A step is a dozen small kernels, which is
    # what makes it several times faster than autograd and torch.optim.
    layer = torch.cat([weight.t().to(z), z.new_zeros(1, num_classes)])
    rows = torch.cat([z, z.new_ones(len(z), 1)], dim=1)
    train, select, selecting = rows[train_mask], rows[select_mask], y[select_mask]
    # Gradient of the mean cross entropy: rows^T (softmax - one_hot) / n.
    scaled = train.t().contiguous() / len(train)
    constant = scaled @ torch.nn.functional.one_hot(y[train_mask], num_classes).to(z)
    mean, square = torch.zeros_like(layer), torch.zeros_like(layer)
    best, kept = -1, layer.clone()
    for step in range(1, steps + 1):
        gradient = scaled @ (train @ layer).softmax(dim=1) - constant
        mean.lerp_(gradient, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        scale = (square.sqrt() / (1 - BETA2**step) ** 0.5).add_(EPSILON)
        layer.addcdiv_(mean, scale, value=-LEARNING_RATE / (1 - BETA1**step))
        if step % every == 0:
            hits = int(((select @ layer).argmax(dim=1) == selecting).sum())
            if hits > best:
                best = hits
                kept.copy_(layer)
    return (rows @ kept).argmax(dim=1)
