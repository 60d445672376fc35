r"""AutoTCL as a method: an encoder, an augmenter, and who moves when.

.. math::
    L_{aug} = L_{PRI} + \lambda L_t \ \text{(encoder held fixed)}, \qquad
    L_{con} = L_{global} + \alpha L_{local} \ \text{(view held fixed)}

The augmenter moves at every M-th step, before the encoder. Views differ from the series three times: by the mask h, by
the gain g, and by steps hidden behind the encoder's first layer. What is evaluated is the mean of all weights the
encoder ever had, the initial ones included, as in the published program: short runs stay near the initial weights. With
``average_power`` the newer weights count more.

Several processes: each has the whole batch, draws the same numbers and makes all views, which is cheap; through the
encoder goes its share of them.

Differs from the published program (all of it is ``variant=released``): hidden steps and dropout are applied; masks can
reach 0 and 1; gains cannot reach 0; the divergence is measured where the contrast is; calendar features stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
from torch import Tensor

from nearfar.config import OptimConfig
from nearfar.errors import ConfigError
from nearfar.objectives.ranks import Ranks
from nearfar.objectives.statistics import alignment, uniformity
from nearfar.runtime import Runtime, evaluating, initial_weights, stream_seed
from nearfar.selectable.objective import SelectedObjective
from nearfar.timeseries.autotcl.augmenter import Augmenter
from nearfar.timeseries.autotcl.chosen import chosen_loss
from nearfar.timeseries.autotcl.config import AutoTCLConfig
from nearfar.timeseries.autotcl.keep_rate import KeepRate
from nearfar.timeseries.autotcl.objective import augmenter_loss, contrast_loss, kept_share
from nearfar.timeseries.autotcl.views import Pair, fixed_pair, hidden_mask
from nearfar.timeseries.encoder.build import build_encoder
from nearfar.timeseries.encoder.pooling import max_pool
from nearfar.timeseries.encoder.series_encoder import SeriesEncoder
from nearfar.timeseries.inputs import Channels, Dataset, training_series
from nearfar.timeseries.sections import Sections
from nearfar.training import EMA, Method, StepContext, StepOutput, Update
from nearfar.training.optim import build_optimizer


class AutoTCL(Method):
    """An encoder of time series trained on views that an augmenter learns to make.

    Args:
        config: Variant, sizes, weights.
        dataset: Gives the number of channels.

    Attributes:
        encoder: What is trained.
        averaged: Mean of its weights so far; ``None`` without ``average``.
        augmenter: Not needed after training; ``None`` where views are of a fixed kind.
        keep_rate: Price of a kept step.
    """

    memory_settings: ClassVar[tuple[str, ...]] = ("batch_size", "crop", "encoder.dim")

    def __init__(self, config: AutoTCLConfig, dataset: Dataset) -> None:
        super().__init__()
        self.config = config
        self.channels = Channels.of(dataset, config)
        with initial_weights(initial_seed(config)):
            self.encoder = build_encoder(config.encoder, self.channels, trail=config.window)
            self.augmenter = (
                Augmenter(
                    self.channels.count,
                    config.augmenter,
                    num_covariates=self.channels.covariates,
                    normalize=config.encoder.normalize,
                )
                if config.learns_views
                else None
            )
        self.objective = (
            None
            if config.objective is None
            else SelectedObjective(config.objective, {"dim": config.encoder.dim}, config.seed, self.encoder)
        )
        self.averaged = EMA(self.encoder) if config.average else None
        a = config.augmenter
        self.keep_rate = KeepRate(a.beta, a.target_keep)
        self._kept: Tensor | None = None

    @staticmethod
    def batches(config: AutoTCLConfig, dataset: Dataset, runtime: Runtime) -> Sections:
        """Crops of the training series.

        Raises:
            ConfigError: If a process would get no series.
        """
        source = Sections(
            training_series(dataset, config),
            batch_size=config.batch_size,
            crop=config.crop,
            seed=config.seed,
            sampling=config.sampling,
        )
        if runtime.world_size > source.batch_size:
            raise ConfigError(
                f"batch_size: {runtime.world_size} series at least expected, one a process, got {source.batch_size}"
            )
        return source

    @property
    def trained(self) -> SeriesEncoder:
        """The encoder to use: the averaged one, if there is one."""
        return self.encoder if self.averaged is None else cast("SeriesEncoder", self.averaged.module)

    def optimizers(self, config: OptimConfig) -> dict[str, torch.optim.Optimizer]:
        """``main`` over the encoder (and what a chosen objective has), ``augmenter`` over the augmenter."""
        own = [] if self.objective is None else list(self.objective.loss.parameters())
        found = {"main": build_optimizer([*self.encoder.parameters(), *own], config)}
        if self.augmenter is not None:
            lr = self.config.augmenter.lr
            found["augmenter"] = build_optimizer(self.augmenter.parameters(), config, lr=lr)
        return found

    def updates(self, step: int) -> Sequence[Update]:
        """The augmenter at every M-th step, then the encoder."""
        a, encoder = self.config.augmenter, Update("main", self.step)
        if self.augmenter is None or step < a.warmup or step % a.every:
            return (encoder,)
        return (Update("augmenter", self.augmenter_step, "augmenter_", follows="augmenter."), encoder)

    def augmenter_step(self, batch: Tensor, ctx: StepContext) -> StepOutput:
        """Keep little, stay close, change slowly.

        Args:
            batch: Series, shape ``(B, T, F)``.
            ctx: Of the step.
        """
        assert self.augmenter is not None
        x = self._typed(batch)
        drawn = self.augmenter(x, _rng(ctx, "gate", 0))
        ranks = Ranks.sharing(ctx.runtime.group, len(x))
        own, seen = x[ranks.own_rows], drawn.apply(x)[ranks.own_rows]
        valid = ~own.isnan().any(2)
        with evaluating(self.encoder):
            with torch.no_grad():
                original = ranks.gather_rows(max_pool(self._states(own), valid))
            view = ranks.gather(max_pool(self._states(seen), valid)[None])[0]
        beta = self.keep_rate.beta
        loss, terms = augmenter_loss(self.augmenter, drawn, original, view, beta, _rng(ctx, "triplet"))
        if self.config.augmenter.mask:
            self._kept = kept_share(self.augmenter, drawn)
            terms |= {"beta": beta, "keep": drawn.mask.mean(), "pi": drawn.pi.mean()}
        terms["gain"] = drawn.gain.mean()
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def step(self, batch: Tensor, ctx: StepContext) -> StepOutput:
        """Pick the view of a series among the views of all, and segments among segments; or every step of it.

        Args:
            batch: Series, shape ``(B, T, F)``.
            ctx: Of the step.
        """
        x = self._typed(batch)
        with torch.no_grad():
            pair = self.pair(x, ctx)
        both = torch.cat([pair.anchor, pair.view])
        ranks = Ranks.sharing(ctx.runtime.group, len(x))
        own, hidden = _of_both(both, ranks), self._hidden(both, ctx)
        states = self.encoder(own, None if hidden is None else _of_both(hidden, ranks))

        def chosen(anchors: Tensor, views: Tensor) -> Tensor:
            return chosen_loss(self, x, pair, (anchors, views), ctx, ranks)

        loss, terms, (anchors, views) = contrast_loss(
            states,
            ~own.isnan().any(2),
            self.config.contrast,
            _rng(ctx, "segments"),
            shift=pair.shift,
            ranks=ranks,
            chosen=None if self.objective is None else chosen,
        )
        with torch.no_grad():
            terms |= {"align": alignment(anchors, views), "uniform": uniformity(anchors)}
        return StepOutput(loss, {name: term.detach() for name, term in terms.items()})

    def after_step(self, ctx: StepContext) -> None:
        """The mean takes in the new weights; the price of a kept step follows the share kept."""
        if self.averaged is not None:
            # Shamir and Zhang (ICML 2013), section 4: the mean needs no memory of its terms.
            steps = ctx.step + 1
            self.averaged.update(self.encoder, steps / (steps + 1 + self.config.average_power))
        if self.objective is not None:
            self.objective.after_step(self.encoder)
        if self._kept is not None:
            self.keep_rate.update(self._kept)
            self._kept = None

    def pair(self, x: Tensor, ctx: StepContext, number: int = 0) -> Pair:
        """What is contrasted at a step.

        Args:
            x: Series, shape ``(B, T, F)``.
            ctx: Of the step.
            number: Of the view: another one has other draws, and crops at the same places.
        """
        further = (number,) if number else ()
        if self.augmenter is not None:
            pair = Pair(x, self.augmenter(x, _rng(ctx, "gate", 1, *further)).apply(x))
        else:
            kind = self.config.augmenter.kind
            kind = "none" if kind == "learned" else kind
            rng = _rng(ctx, "augment", *further)
            pair = fixed_pair(x, kind, rng, num_covariates=self.channels.covariates)
        return pair.cropped(ctx.rng("crops")) if self.config.crops_views else pair

    def _hidden(self, both: Tensor, ctx: StepContext) -> Tensor | None:
        c = self.config.contrast
        mask = hidden_mask(both, c.hidden_mask, _rng(ctx, "hidden"))
        if mask is not None and c.hidden_on == "view":
            mask = torch.cat([torch.ones_like(mask[: len(mask) // 2]), mask[len(mask) // 2 :]])
        return mask

    def _states(self, x: Tensor) -> Tensor:
        """Where the divergence is measured, shape ``(B, T, D)``."""
        if self.config.augmenter.space == "trunk":
            return self.encoder.trunk(self.encoder.normalized(x)[0])  # type: ignore[no-any-return]
        return self.encoder(x)  # type: ignore[no-any-return]

    def _typed(self, batch: Tensor) -> Tensor:
        return batch.to(next(self.encoder.parameters()).dtype)


def initial_seed(config: AutoTCLConfig) -> int:
    """What initial weights are drawn from; the published program adds 2 to its seed.

    Args:
        config: Variant and seed.
    """
    return config.seed + 2 if config.variant == "released" else stream_seed(config.seed, "init")


def _of_both(both: Tensor, ranks: Ranks) -> Tensor:
    """This process's rows of series and views, one behind the other."""
    return torch.cat([half[ranks.own_rows] for half in both.chunk(2)])


def _rng(ctx: StepContext, name: str, *counters: int) -> torch.Generator:
    """A stream that is the same on all processes and, as it is the CPU's, all devices."""
    return ctx.rng(name, *counters, 0)  # without the 0 recorded runs would be other ones
