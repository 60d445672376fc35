"""AutoTCL as a fastai callback. Importing this module imports tsai; go through :mod:`nearfar.timeseries.tsai`.

fastai's events, in the order in which they matter here: ``before_fit`` takes the learner over, ``before_batch`` trains
the augmenter and exchanges the batch, ``after_step`` takes the new weights into the mean, ``before_validate`` shows the
mean weights, which stay in the model until training goes on, so that whoever saves the model saves them.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nearfar.atomic import replace_file
from nearfar.config import Layer, resolve
from nearfar.errors import ConfigError, DataError, first_line
from nearfar.interop.tsai import load
from nearfar.timeseries.encoder.tsai_encoder import WITH_BACKBONE, TsaiEncoder
from nearfar.timeseries.tsai.frozen import held_fixed
from nearfar.timeseries.tsai.mean_weights import MeanWeights
from nearfar.timeseries.tsai.passed_by import PassedBy
from nearfar.timeseries.tsai.pretext import TERMS, Pretext, Shown
from nearfar.timeseries.tsai.settings import CallbackSettings

# Has what of fastai is needed here.
_fastai: Any = load("tsai.callback.core")
_log = logging.getLogger(__name__)


class AutoTCL(_fastai.Callback):  # type: ignore[misc]  # fastai is untyped
    """Pre-train the backbone of a tsai learner by AutoTCL (Zheng et al., ICLR 2024).

    Labels, loss, metrics and head of the learner are out of use during ``fit`` and come back afterwards, however it
    ends; ``get_preds`` and ``validate`` are as without the callback. fastai moves the encoder, with the learner's
    optimiser, schedule, precision and clipping; the augmenter has its own. Every fit starts with a new augmenter.

    Validation is without chance. Its columns besides the loss: mean probability of keeping a step (``keep``),
    alignment, uniformity, and the divergence of views from originals.

    Args:
        aug_dim: Width of the augmenter's last block.
        aug_depth: Its last dilation is 2 to this power.
        aug_hidden: Width of its blocks.
        lr_aug: Its learning rate.
        M: Batches between its updates.
        beta: Price of a kept step, at the start.
        lam: Weight of the triplet regulariser.
        alpha: Weight of the local loss.
        tau: Softmax temperature of the global loss.
        hard: Masks of zeros and ones.
        mask_mode: Steps hidden from the encoder in training: ``binomial``, ``continuous``, ``mask_last``,
            ``all_true`` (none) or ``all_false``.
        variant: ``paper``, ``paper+`` or ``released``: decides what has no argument here.
        average: Show, save and leave in the model the mean of all weights there were.
        weights_path: File to go on from, of this callback or of MVP; all but the head is read.
        target_dir: Folder of the file that is written.
        fname: Its name, without ``.pth``.
        save_best: Write it after every epoch with the smallest validation loss so far; left to fastai's
            SaveModelCallback where there is one.
        verbose: Log every file that is written as a warning, which is shown, not as information.
        seed: Of the augmenter's weights and all draws; the default generators are left alone.
        target_keep: Share of kept steps that beta is steered to; ``None`` leaves beta alone.

    Attributes:
        settings: Of all this, checked.
        augmenter: That of the last fit; ``augmenter(x)`` with x of shape ``(B, T, F)`` gives views.
        best: Smallest validation loss; ``best_epoch`` is when.

    Raises:
        ConfigError: If a setting is out of bounds.
    """

    # Before Recorder (50), which writes down the names of the metrics, after mixed precision (10) and casts (9).
    order = 45

    def __init__(
        self,
        aug_dim: int = 16,
        aug_depth: int = 1,
        aug_hidden: int = 64,
        lr_aug: float = 1e-3,
        M: int = 1,  # noqa: N803 - the paper's name
        beta: float = 0.05,
        lam: float = 0.01,
        alpha: float = 0.3,
        tau: float = 0.2,
        hard: bool = True,
        mask_mode: str = "binomial",
        variant: str = "paper",
        average: bool = True,
        weights_path: str | Path | None = None,
        target_dir: str | Path = "./models/AutoTCL",
        fname: str = "model",
        save_best: bool = True,
        verbose: bool = False,
        seed: int = 0,
        target_keep: float | None = 0.7,
    ) -> None:
        given = {
            "aug_dim": aug_dim,
            "aug_depth": aug_depth,
            "aug_hidden": aug_hidden,
            "lr_aug": lr_aug,
            "M": M,
            "beta": beta,
            "lam": lam,
            "alpha": alpha,
            "tau": tau,
            "hard": hard,
            "mask_mode": mask_mode,
            "variant": variant,
            "average": average,
            "target_keep": target_keep,
            "seed": seed,
        }
        self.settings = resolve(CallbackSettings, [Layer("AutoTCL", given)])
        self.weights_path, self.save_best, self.verbose = weights_path, save_best, verbose
        self.file = Path(target_dir) / f"{fname}.pth"
        self.augmenter: nn.Module | None = None
        self.best, self.best_epoch = math.inf, -1
        self._fitting = False
        self._reset()

    def _reset(self) -> None:
        self._undo: ExitStack | None = None
        self._pretext: Pretext | None = None
        self._mean: MeanWeights | None = None
        self._shown: Shown | None = None
        self._moves = False
        self._sums: dict[str, Tensor] = {}
        self._rows = 0

    # fastai calls after_fit for its own exceptions only. What is taken from the learner has to come back after any, so
    # the one method that surrounds a whole fit, other callbacks' before_fit included, goes through here.

    @property
    def learn(self) -> Any:
        """The learner; setting it is how fastai attaches a callback."""
        return self.__dict__.get("_learner")

    @learn.setter
    def learn(self, learner: Any) -> None:
        """Attach to a learner, or to none.

        Args:
            learner: fastai's, or ``None``.
        """
        if self.learn is not None:
            self.learn.__dict__.pop("_with_events", None)
        self.__dict__["_learner"] = learner
        if learner is not None:
            learner.__dict__["_with_events"] = self._with_events

    def _with_events(self, inner: Callable[[], object], event: str, *rest: Any, **named: Any) -> None:
        surround = functools.partial(type(self.learn)._with_events, self.learn)
        if event != "fit":
            surround(inner, event, *rest, **named)
            return
        self._fitting = True
        try:
            surround(inner, event, *rest, **named)
        finally:
            self._fitting = False
            if self._undo is not None:
                self._undo.close()
            self._reset()

    def __call__(self, event_name: str) -> Any:
        """Run an event; nothing outside a fit, or while predictions are gathered within one.

        Args:
            event_name: As fastai calls it.
        """
        if not self._fitting or hasattr(self.learn, "gather_preds"):
            return None
        return super().__call__(event_name)

    def before_fit(self) -> None:
        """Take the learner over.

        Raises:
            ConfigError: If the model has no backbone or no head.
            DataError: If the file to go on from does not fit the model.
        """
        if self._undo is not None:
            return  # somebody validates within the fit
        self._undo = ExitStack()
        learner, model = self.learn, self.learn.model
        backbone = TsaiEncoder(model, 1).backbone  # or an error that names the models to take
        if not isinstance(getattr(model, "head", None), nn.Module):
            raise ConfigError(f"model: {type(model).__name__} has no head; models that have one: {_NAMES}")
        if self.weights_path is not None:
            _read(model, Path(self.weights_path))
        self._replace(learner, "metrics", [_metric(name, self._average) for name in TERMS])
        self._replace(learner, "loss_func", self._loss)
        head = model.head
        self._undo.callback(lambda: head.train(model.training))
        self._replace(model, "head", PassedBy(head))
        self._mean = MeanWeights(backbone) if self.settings.average else None
        self.best, self.best_epoch = math.inf, -1

    def before_train(self) -> None:
        """Own weights, for training to go on from."""
        if self._mean is not None:
            self._mean.hide()
        self._forget()

    def before_validate(self) -> None:
        """Mean weights, from here until training goes on."""
        self._show_mean()
        self._forget()

    def before_batch(self) -> None:
        """Train the augmenter, then exchange the batch for series and views.

        Raises:
            DataError: If it is no batch of series.
            ConfigError: If the model cannot be trained like this.
        """
        given = self.learn.xb[0]
        if given.dim() != 3:
            raise DataError(f"batch: shape (B, F, T) expected, got {tuple(given.shape)}")
        training, x = bool(self.learn.training), given.detach().as_subclass(Tensor).float().mT
        number = int(self.learn.train_iter if training else self.learn.iter)
        # In full precision: half of it would need a scaler of its own.
        with torch.autocast(x.device.type, enabled=False):
            if self._pretext is None:
                self._pretext = self._begin(x)
            if training and number % self.settings.M == 0:
                self._pretext.train_augmenter(x, number)
            self._shown = self._pretext.show(x, number, training=training)
        if training and self._mean is not None:
            self._mean.remember(torch.where(x.isnan().any(2, keepdim=True), 0, x).mT)
        self.learn.xb = (self._shown.inputs.mT.contiguous(),)
        # Nobody reads it but fastai, which counts its rows.
        self.learn.yb = (x.new_zeros(len(x)),)

    def before_step(self) -> None:
        """The optimiser is about to move the encoder."""
        self._moves = True

    def after_cancel_step(self) -> None:
        """It does not: mixed precision skips steps that overflow."""
        self._moves = False

    def after_step(self) -> None:
        """The new weights enter the mean."""
        if self._moves and self._mean is not None:
            self._mean.update()
        self._moves = False

    def after_epoch(self) -> None:
        """Save the weights if they are the best so far."""
        self._show_mean()
        value = self._value()
        elsewhere = any(isinstance(cb, _fastai.SaveModelCallback) for cb in self.learn.cbs)
        if not value < self.best:
            return
        self.best, self.best_epoch = value, int(self.learn.epoch)
        if self.save_best and not elsewhere and not hasattr(self.learn, "lr_finder"):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            state = self.learn.model.state_dict()
            replace_file(self.file, lambda file: torch.save(state, file))
            level = logging.WARNING if self.verbose else logging.INFO
            _log.log(level, "epoch %d: loss %.6f; weights_path=%r", self.best_epoch, value, str(self.file))

    def after_fit(self) -> None:
        """Leave the mean weights in the model; the rest comes back when the fit has ended."""
        self._show_mean()

    def _show_mean(self) -> None:
        if self._mean is not None:
            self._mean.show()

    def _forget(self) -> None:
        self._sums, self._rows = {}, 0

    def _loss(self, states: Tensor, *_: Tensor, **__: Any) -> Tensor:
        if hasattr(self.learn, "gather_preds"):
            return states.new_zeros(len(states))  # of somebody who asks for predictions within the fit
        assert self._pretext is not None
        assert self._shown is not None
        states = states.as_subclass(Tensor)
        with torch.autocast(states.device.type, enabled=False):
            loss, terms = self._pretext.loss(states.float().mT, self._shown)
        rows = len(states) // 2
        self._rows += rows
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0) + rows * term
        return loss

    def _average(self, name: str) -> float | None:
        """Since training or validation began; read by the recorder at their ends."""
        return self._sums[name].item() / self._rows if self._rows else None

    def _value(self) -> float:
        """Loss of this epoch: of validation, where there is one."""
        recorder = getattr(self.learn, "recorder", None)
        if recorder is None:
            return math.inf
        values = dict(zip(recorder.metric_names[1:], recorder.log[1:], strict=False))
        found = [values.get(name) for name in ("valid_loss", "train_loss")]
        return next((float(value) for value in found if value is not None), math.inf)

    def _replace(self, owner: Any, name: str, value: object) -> None:
        assert self._undo is not None
        self._undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    def _begin(self, x: Tensor) -> Pretext:
        """What depends on the number of channels, at the first batch.

        Asking the loaders for it (``dls.vars``) would draw a batch, and with it random numbers of the process.
        """
        model, steps, channels = self.learn.model, x.shape[1], x.shape[2]
        pretext = Pretext(model, channels, self.settings)
        zeros = x.new_zeros(2, steps, channels)
        with held_fixed(model), torch.no_grad():
            expected, found = pretext.encoder(zeros).mT, model(zeros.mT)
        if expected.shape != found.shape or not torch.allclose(expected, found, atol=1e-4):
            raise ConfigError(
                f"model: there is more to {type(model).__name__} than a backbone and a head; models that have "
                f"nothing else: {_NAMES}"
            )
        self.augmenter = pretext.augmenter
        return pretext


_NAMES = ", ".join(WITH_BACKBONE)


def _metric(name: str, read: Callable[[str], float | None]) -> Any:
    return _fastai.ValueMetric(functools.partial(read, name), name)


def _read(model: nn.Module, path: Path) -> None:
    """Weights of all but the head."""
    if not path.is_file():
        raise DataError(f"weights_path: there is no file {path}; give one that AutoTCL or MVP has written")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise DataError(f"weights_path: {path} cannot be read: {first_line(error)}; write it anew") from None
    if not isinstance(state, dict):
        raise DataError(f"weights_path: {path} holds no weights by name, but a {type(state).__name__}")
    mine = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("head.")}
    wrong = [name for name, tensor in mine.items() if getattr(state.get(name), "shape", None) != tensor.shape]
    if wrong:
        raise DataError(
            f"weights_path: {path} is of another model than {type(model).__name__} here: {len(wrong)} of "
            f"{len(mine)} weights are missing or of another shape, the first is {wrong[0]}"
        )
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(state[name])
