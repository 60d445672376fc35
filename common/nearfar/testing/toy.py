"""The smallest methods with everything the loop has to get right: dropout, buffers, queues, two optimisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nearfar.config import OptimConfig, RunConfig
from nearfar.objectives import KeyQueue, contrast
from nearfar.objectives.logsumexp import Backend
from nearfar.objectives.ranks import Ranks
from nearfar.runtime import Runtime, generator, isolated_rng
from nearfar.training import EMA, Method, StepContext, StepOutput, Update, chunked_backward
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


class ToyContrast(Method):
    """Two noisy views contrasted with a momentum encoder and a queue: all the state a method may carry.

    Args:
        seed: Decides the initial weights.
        dim: Features of the representations.
        queue_size: Keys kept from earlier steps.
        backend: Of the contrast.
    """

    chunkable = True

    def __init__(
        self, seed: int = 0, *, dim: int = 8, queue_size: int = 32, backend: Backend = "auto"
    ) -> None:
        super().__init__()
        with isolated_rng():
            self.encoder, self.head = nn.Sequential(nn.Linear(4, dim), nn.Tanh()), nn.Linear(dim, dim)
        rng = generator(seed, "init")
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=rng)
        self.target = EMA(nn.Sequential(self.encoder, self.head), 0.9)
        self.queue = KeyQueue(queue_size, dim)
        self.backend = backend

    def optimizers(self, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
        """One for the encoder, one for the head, which moves twice a step."""
        return {
            "encoder": build_optimizer(self.encoder.parameters(), config),
            "head": build_optimizer(self.head.parameters(), config, lr=3e-3),
        }

    def updates(self, step: int) -> Sequence[Update]:  # noqa: ARG002 - the same every step
        """The encoder, then the head."""
        return Update("encoder", self.step), Update("head", self.step, prefix="head_")

    def step(self, batch: ToyRows, ctx: StepContext) -> StepOutput:
        """Contrast of each row with its other view, and with those in the queue."""
        a, b = batch.views
        with torch.no_grad():
            keys: Tensor = self.target(b)
        self._keys = keys
        network = nn.Sequential(self.encoder, self.head)
        group = ctx.runtime.group

        def loss_of(q: Tensor) -> Tensor:
            within = contrast(q, keys, group=group, backend=self.backend)
            return within + contrast(q, keys, queue=self.queue, group=group) if len(self.queue) else within

        if ctx.chunks > 1:
            loss = chunked_backward(network, a, loss_of, -(-len(a) // ctx.chunks))
            return StepOutput(loss, {"contrast": loss}, descended=True)
        loss = loss_of(network(a))
        return StepOutput(loss, {"contrast": loss})

    def after_step(self, ctx: StepContext) -> None:
        """The target follows, the keys of all processes are queued."""
        self.target.update(nn.Sequential(self.encoder, self.head))
        keys = self._keys
        ranks = Ranks.of(ctx.runtime.group, len(keys), len(keys), keys.device)
        self.queue.enqueue(ranks.gather_rows(keys))


@dataclass(frozen=True)
class ToyRows:
    """Two noisy views of some rows, each ``(B, 4)``."""

    views: tuple[Tensor, Tensor]


class ToyViews:
    """Forty rows, or as many as asked for, in batches with two noisy views; every process has every n-th row.

    Args:
        seed: Decides order and noise.
        runtime: Which rows are this process's.
        batch_size: Rows of all processes together; divides the number of rows.
        num_rows: Rows of the data.
        bad_step: Step at which row 3 of the first view holds a NaN.
        dtype: Of the rows.
    """

    def __init__(
        self,
        seed: int = 0,
        runtime: Runtime | None = None,
        *,
        batch_size: int = 8,
        num_rows: int = 40,
        bad_step: int | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.x = torch.randn(num_rows, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)
        self.seed, self.batch_size, self.bad_step = seed, batch_size, bad_step
        self.rank, self.world_size = (runtime.rank, runtime.world_size) if runtime else (0, 1)
        self.steps_per_epoch = num_rows // batch_size

    def batch(self, step: int) -> ToyRows:
        """Both views of the rows of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = torch.randperm(len(self.x), generator=generator(self.seed, "order", epoch))
        x = self.x[order[self.batch_size * place : self.batch_size * (place + 1)]]
        rng = generator(self.seed, "augment", step)
        noisy = [x + 0.1 * torch.randn(x.shape, generator=rng, dtype=x.dtype) for _ in range(2)]
        if step == self.bad_step:
            noisy[0][3, 1] = torch.nan
        a, b = (view[self.rank :: self.world_size] for view in noisy)
        return ToyRows((a, b))


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
