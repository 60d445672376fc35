"""Losses over a large batch with the memory of a small one (GradCache, Gao et al., RepL4NLP 2021, section 3).

A contrastive loss needs the representations of the whole batch, but its gradient passes through each of them
separately. So: encode chunk by chunk without a graph, take the loss and its gradient with respect to the
representations, then encode each chunk once more with a graph and hand that gradient on. The second time every
chunk finds the random numbers and buffers of the first.

Differs from the official code: buffers are replayed too, so that running statistics count a batch once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

View: TypeAlias = Tensor | tuple[Tensor, ...]


def chunked_backward(
    encoder: nn.Module | Sequence[nn.Module],
    inputs: View | list[View],
    loss_fn: Callable[..., Tensor],
    chunk: int,
) -> Tensor:
    """Add the gradients of ``loss_fn(encoder(inputs))`` to all parameters, encoding ``chunk`` rows at a time.

    The result is that of encoding in chunks and calling ``backward()``, dropout included; the graph of one
    chunk at a time is in memory. Batch normalisation in training mode sees chunks, not the batch. Call it
    inside ``torch.autocast`` for mixed precision: it applies to both passes and the loss. Everything random in
    the encoder must come from the default generators of the CPU and CUDA, and every state it changes must be a
    buffer.

    Args:
        encoder: Module, or one a view, that returns one representation a row, shape ``(n, ...)``.
        inputs: The arguments of the encoder, a tensor or a tuple of tensors with the same number of rows; or a
            *list* of such for several views.
        loss_fn: Called once with the representations of each view, shape ``(N, ...)``; returns a scalar. Its own
            parameters (a temperature, say) receive their gradients too.
        chunk: Rows encoded at a time.

    Returns:
        The loss, detached.

    Raises:
        ValueError: If ``chunk`` is below 1, the encoders or rows of a view do not match, a device other than
            CPU and CUDA is used, or the encoder or ``loss_fn`` returns another shape.

    Example:
        >>> encoder = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(encoder.weight)
        >>> chunked_backward(encoder, torch.ones(5, 1), lambda z: z.sum() ** 2, chunk=2).item()
        25.0
        >>> encoder.weight.grad.item()  # of (5 w)^2
        50.0
    """
    if chunk < 1:
        raise ValueError(f"chunk: at least 1 expected, got {chunk}")
    views = _pair(encoder, inputs)
    buffers = list({id(b): b for module, _ in views for b in module.buffers()}.values())
    found = [buffer.clone() for buffer in buffers]
    encoded = [_encode(module, view, chunk) for module, view in views]

    # Weights autocast has just cast carry no gradient; older torch would use them again (its issue 112583).
    torch.clear_autocast_cache()
    loss = loss_fn(*(z for z, _ in encoded))
    if loss.dim() != 0:
        raise ValueError(f"loss_fn: a scalar expected, got shape {tuple(loss.shape)}")
    _backward(loss)

    after = _RandomState.now()
    with torch.no_grad():
        for buffer, value in zip(buffers, found, strict=True):
            buffer.copy_(value)
    for (module, view), (z, states) in zip(views, encoded, strict=True):
        if z.grad is not None or buffers:  # without gradient a view still moves buffers the next one finds
            _replay(module, zip(_chunks(view, chunk), states, strict=True), z.grad)
    after.restore()
    return loss.detach()


def _pair(
    encoder: nn.Module | Sequence[nn.Module], inputs: View | list[View]
) -> list[tuple[nn.Module, tuple[Tensor, ...]]]:
    given = inputs if isinstance(inputs, list) else [inputs]
    views = [(view,) if isinstance(view, Tensor) else tuple(view) for view in given]
    encoders = [encoder] * len(views) if isinstance(encoder, nn.Module) else list(encoder)
    if len(encoders) != len(views) or not views:
        raise ValueError(
            f"encoder: one module, or one a view expected, got {len(encoders)} and {len(views)} views"
        )
    for view in views:
        if not view or any(len(part) != len(view[0]) for part in view) or len(view[0]) == 0:
            raise ValueError(
                f"inputs: tensors with equally many rows, at least one, expected in a view, "
                f"got shapes {[tuple(part.shape) for part in view]}"
            )
        if others := {part.device.type for part in view} - {"cpu", "cuda"}:
            raise ValueError(f"inputs: on CPU or CUDA expected, whose dropout can be replayed, got {others}")
    return list(zip(encoders, views, strict=True))


def _chunks(view: tuple[Tensor, ...], chunk: int) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(part.split(chunk) for part in view), strict=True)


def _encode(module: nn.Module, view: tuple[Tensor, ...], chunk: int) -> tuple[Tensor, list[_RandomState]]:
    """Representations of a view as a leaf of the graph, and the random state before each chunk."""
    parts, states = [], []
    with torch.no_grad():
        for piece in _chunks(view, chunk):
            states.append(_RandomState.now())
            z = module(*piece)
            if not isinstance(z, Tensor) or z.dim() == 0 or len(z) != len(piece[0]):
                got = f"shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
                raise ValueError(f"encoder: a tensor of {len(piece[0])} rows expected, got {got}")
            parts.append(z)
    return torch.cat(parts).requires_grad_(), states


def _replay(
    module: nn.Module, pieces: Iterable[tuple[tuple[Tensor, ...], _RandomState]], grad: Tensor | None
) -> None:
    """Encode a view once more and send its gradient back, chunk by chunk."""
    begin = 0
    for piece, state in pieces:
        state.restore()
        with torch.set_grad_enabled(grad is not None):
            z = module(*piece)
        if grad is not None and z.requires_grad:
            _backward(z, grad[begin : begin + len(z)])
        begin += len(z)


def _backward(value: Tensor, grad: Tensor | None = None) -> None:
    # Autocast is for forward passes; gradients follow the precision those had.
    with torch.autocast(value.device.type, enabled=False):
        value.backward(grad)


@dataclass(frozen=True)
class _RandomState:
    """The default generators of the CPU and of all CUDA devices in use."""

    cpu: Tensor
    cuda: list[Tensor]

    @classmethod
    def now(cls) -> _RandomState:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return cls(torch.get_rng_state(), cuda)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
