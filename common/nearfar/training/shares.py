"""Who encodes which rows of a batch that every process holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from nearfar.errors import ConfigError
from nearfar.objectives.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def shares_of(encoder: nn.Module, group: ProcessGroup | None, total: int) -> Ranks:
    """Equal shares of a batch, for an encoder that looks at every row alone.

    Args:
        encoder: What is trained.
        group: The processes, or ``None``.
        total: Rows of the batch.

    Raises:
        ConfigError: If the encoder normalises by batch: on several processes it would see a part of it on each.
    """
    ranks = Ranks.sharing(group, total)
    if ranks.group is not None and any(_by_batch(module) for module in encoder.modules()):
        raise ConfigError(
            "encoder: its batch normalisation would see a part of the batch on each process; take one process, or "
            "an encoder without it (small_cnn)"
        )
    return ranks


def _by_batch(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)
