"""RecBole's trainer for the schedules that alternate, and for resuming with the bits of the straight run.

Imported by :func:`~nearfar.recsys.recbole.register_recbole` only, inside the scope RecBole needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from recbole.trainer import Trainer
from torch import Tensor, nn

from nearfar.atomic import replace_file
from nearfar.errors import ConfigError, DataError
from nearfar.runtime import Runtime, stream_seed
from nearfar.training import StepContext
from nearfar.training.step import seed_dropout

Parts = tuple[Tensor, ...]


class BothOptimizers:
    """The optimisers of the encoder and of the augmenters, in one state that RecBole saves and loads.

    Args:
        encoder: Moves the encoder.
        augmenters: Moves the augmenters.
    """

    def __init__(self, encoder: torch.optim.Optimizer, augmenters: torch.optim.Optimizer) -> None:
        self.encoder, self.augmenters = encoder, augmenters

    def state_dict(self) -> dict[str, Any]:
        """Both states by name."""
        return {"encoder": self.encoder.state_dict(), "augmenters": self.augmenters.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take both states over.

        Raises:
            ConfigError: If the checkpoint is of a schedule with one optimiser.
        """
        if set(state) != {"encoder", "augmenters"}:
            raise ConfigError(
                "the checkpoint holds one optimiser, cl_schedule 'paper' and 'official' have two: "
                "resume with the cl_schedule it was trained with"
            )
        self.encoder.load_state_dict(state["encoder"])
        self.augmenters.load_state_dict(state["augmenters"])


class MCLRecTrainer(Trainer):  # type: ignore[misc]  # RecBole is untyped
    """RecBole's Trainer, plus the schedules "paper" and "official", plus exact resumption.

    The order of an epoch and the dropout of a step depend on the seed and on their numbers only, and checkpoints
    appear whole or not at all; otherwise "simultaneous" and "joint" train as in RecBole's own Trainer.

    Args:
        config: RecBole's Config.
        model: :class:`~nearfar.recsys.recbole.model.MCLRec`.

    Raises:
        ConfigError: If an alternating schedule is asked for on several devices.
    """

    def __init__(self, config: Any, model: Any) -> None:
        if model.objective.alternates and not config["single_spec"]:
            raise ConfigError(
                f"cl_schedule '{model.settings.cl_schedule}' trains on one device: use 'simultaneous', or nproc=1"
            )
        super().__init__(config, model)

    def _build_optimizer(self, **kwargs: Any) -> Any:
        if kwargs or "augmenters" not in self.model.objective.stages:
            return super()._build_optimizer(**kwargs)
        return BothOptimizers(
            super()._build_optimizer(params=self.model.encoder.parameters()),
            super()._build_optimizer(params=self.model.augmenters.parameters()),
        )

    def _train_epoch(
        self, train_data: Any, epoch_idx: int, loss_func: Any = None, show_progress: bool = False
    ) -> Any:
        train_data.generator.manual_seed(stream_seed(self.model.seed, "order", epoch_idx))
        if self.model.objective.alternates:
            return self._alternate(train_data)
        compute = loss_func or self.model.calculate_loss

        def seeded(interaction: Any) -> Any:
            self._seed_dropout(0)
            return compute(interaction)

        return super()._train_epoch(train_data, epoch_idx, seeded, show_progress)

    def _alternate(self, train_data: Any) -> tuple[float, ...]:
        """An epoch of the stages of the schedule; returns the parts of each stage's last loss, summed over batches."""
        model = self.model.train()
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.enable_scaler)
        total: Tensor | None = None
        for batch in train_data:
            interaction = batch.to(self.device)
            views = model.draw_views(interaction)
            parts: dict[str, Parts] = {}
            for index, stage in enumerate(model.objective.stages):
                self._seed_dropout(index)
                with torch.autocast(self.device.type, enabled=self.enable_amp):
                    if stage == "encoder":
                        parts[stage] = model.encoder_losses(interaction, views)
                    else:
                        parts[stage] = model.augmenter_losses(views)
                # Each loss reaches its own parameters only; the others are constants to it.
                self._descend(parts[stage], stage, scaler)
            logged = torch.stack([part.detach() for losses in parts.values() for part in losses])
            total = logged if total is None else total + logged
        if total is None:
            raise DataError(
                "there is no training batch: no user has the four events that leave one to train on"
            )
        return tuple(total.tolist())

    def _descend(self, losses: Parts, stage: str, scaler: Any) -> None:
        optimizer = self.optimizer
        if isinstance(optimizer, BothOptimizers):
            optimizer = getattr(optimizer, stage)
        loss = torch.stack(losses).sum()
        self._check_nan(loss)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        if self.clip_grad_norm:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(getattr(self.model, stage).parameters(), **self.clip_grad_norm)
        scaler.step(optimizer)
        scaler.update()

    def _seed_dropout(self, update: int) -> None:
        runtime = Runtime(self.device, int(self.config["local_rank"]))
        seed_dropout(StepContext(self.model.seed, self.model.steps_done, runtime), update)

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
        if not self.config["single_spec"] and self.config["local_rank"] != 0:
            return
        target = Path(kwargs.pop("saved_model_file", self.saved_model_file))
        save = super()._save_checkpoint
        # torch.save takes a file for a name.
        replace_file(target, lambda file: save(epoch, verbose=False, saved_model_file=file, **kwargs))
        if verbose:
            self.logger.info(f"Saving current: {target}")
