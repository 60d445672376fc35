"""The smallest method with everything the loop has to get right: dropout, noise, a buffer, two optimisers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nearfar.config import OptimConfig, RunConfig
from nearfar.runtime import generator, isolated_rng
from nearfar.training import Method, StepContext, StepOutput, Update
from nearfar.training.optim import build_optimizer


class ToyConfig(RunConfig):
    """Nothing beyond what every run has."""

    data: str = "toy"


class ToyMethod(Method):
    """Regression through an encoder and a head.

    Args:
        seed: Decides the initial weights.
        alternate: Move encoder and head by turns: both in even steps, the head alone in odd ones.
        bad_step: Make the loss NaN at this step.
    """

    running: Tensor

    def __init__(self, seed: int = 0, *, alternate: bool = False, bad_step: int | None = None) -> None:
        super().__init__()
        with isolated_rng():
            self.encoder, self.head, self.dropout = nn.Linear(4, 8), nn.Linear(8, 1), nn.Dropout(0.3)
        rng = generator(seed, "init")
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3, generator=rng)
        self.register_buffer("running", torch.zeros(()))
        self.alternate, self.bad_step = alternate, bad_step

    def optimizers(self, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
        """One, or one for each half."""
        if not self.alternate:
            return super().optimizers(config)
        return {
            "encoder": build_optimizer(self.encoder.parameters(), config),
            "head": build_optimizer(self.head.parameters(), config, lr=3e-3),
        }

    def updates(self, step: int) -> Sequence[Update]:
        """One, or the turns described above."""
        if not self.alternate:
            return super().updates(step)
        head = Update("head", self.step, prefix="head_")
        return (Update("encoder", self.step), head) if step % 2 == 0 else (head,)

    def forward(self, x: Tensor) -> Tensor:
        """Prediction ``(N,)`` for rows ``(N, 4)``."""
        y: Tensor = self.head(self.dropout(self.encoder(x)).relu())[:, 0]
        return y

    def step(self, batch: tuple[Tensor, Tensor], ctx: StepContext) -> StepOutput:
        """Squared error of slightly noisy rows ``(N, 4)`` against values ``(N,)``."""
        x, y = batch
        noise = 0.01 * torch.randn(x.shape, generator=ctx.rng("augment"))
        error = (self(x + noise) - y).square().mean()
        if ctx.step == self.bad_step:
            error = error * torch.nan
        return StepOutput(error, {"mse": error})

    def after_step(self, ctx: StepContext) -> None:
        """A moving average that a resumed run must find again."""
        self.running.mul_(0.9).add_(0.1 * ctx.step)


class ToySource:
    """Forty rows of a linear problem in batches of eight, in an order of its own every epoch.

    Args:
        seed: Decides the order.
    """

    steps_per_epoch = 5

    def __init__(self, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(1)
        self.x = torch.randn(40, 4, generator=rng)
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5, 0.0])
        self.seed = seed

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Eight rows and their values."""
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = torch.randperm(40, generator=generator(self.seed, "order", epoch))[8 * place : 8 * place + 8]
        return self.x[rows], self.y[rows]
