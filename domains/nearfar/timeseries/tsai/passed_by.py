"""A head that is not asked, but whose weights stay where they were."""

from __future__ import annotations

from torch import Tensor, nn


class PassedBy(nn.Module):
    """Identity with the parts and the weights of another module, under their names.

    So a model whose head is passed by has the same ``state_dict()`` keys and the same parameters as before:
    optimisers made earlier and files written or read meanwhile (``SaveModelCallback``, ``lr_find``) fit.

    Args:
        module: Not changed; its parts are shared.

    Example:
        >>> head = nn.Linear(2, 1)
        >>> list(PassedBy(head).state_dict()) == list(head.state_dict())
        True
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._modules, self._parameters, self._buffers = (
            module._modules,
            module._parameters,
            module._buffers,
        )
        self._non_persistent_buffers_set = module._non_persistent_buffers_set
        self.training = module.training

    def forward(self, z: Tensor) -> Tensor:
        """What comes in.

        Args:
            z: Shape ``(B, D, T)``.

        Returns:
            Shape ``(B, D, T)``.
        """
        return z
