"""The training loop of every domain: step, terms, optimisers, log, validation, checkpoint, stop.

Nothing here remembers anything between steps but the method, its optimisers and the list of past
validations: the batch, the augmentations, dropout and the learning rate of step s are functions of
(seed, s). That is why a checkpoint is small, a resumed run repeats the uninterrupted one bit by bit, and a step
that went wrong can be repeated under observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nearfar.config import RunConfig
from nearfar.errors import DivergedError
from nearfar.runtime import Runtime, isolated_rng
from nearfar.training.checkpoint import CheckpointStore
from nearfar.training.guard import LogFunction, ignore
from nearfar.training.method import BatchSource, Method
from nearfar.training.prefetch import Prefetch
from nearfar.training.progress import Progress
from nearfar.training.selection import best_step
from nearfar.training.trainer import OnValidation, Trainer, Validate


@dataclass(frozen=True)
class FitResult:
    """How training ended.

    Attributes:
        steps: Steps made.
        epochs: Whole epochs made.
        best_step: Step of the best validation, whose weights the method now has if there was a store;
            ``None`` without validation.
        stopped_early: Whether patience ran out.
        seconds: Training time, of all processes that had a part in the run one after the other.
        history: Validations in order, each with its ``step``; step 0 is the untrained method.
    """

    steps: int
    epochs: int
    best_step: int | None
    stopped_early: bool
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    method: Method,
    source: BatchSource,
    *,
    config: RunConfig,
    runtime: Runtime,
    log: LogFunction = ignore,
    validate: Validate | None = None,
    on_validation: OnValidation = ignore,
    store: CheckpointStore | None = None,
    fingerprint: Mapping[str, str | int] | None = None,
    resume: bool = False,
    stop: Callable[[], str | None] = lambda: None,
    before_save: Callable[[], None] = lambda: None,
    label: str = "train",
    quiet: bool = False,
) -> FitResult:
    """Train ``method`` in place and leave it with the weights of its best validation.

    Args:
        method: What to train, already on ``runtime.device``.
        source: Batches by step number.
        config: Epochs, optimiser, selection, checkpoint cadence and seed.
        runtime: Device and process group.
        log: Receives ``(metrics, step)``; called from the training thread, so it must return at once.
        validate: Measures ``val/*`` metrics; the module is in evaluation mode meanwhile. Called on the first
            process only.
        on_validation: Given the metrics of each validation and its epoch, those before a resume included; what it
            raises ends the run.
        store: Where checkpoints go; without one nothing is saved and the last weights stay.
        fingerprint: What this run is; a checkpoint of another run is refused on resume.
        resume: Go on from the newest checkpoint in ``store``; otherwise its folder is emptied first.
        stop: Asked after each step (over several processes every ``log_every`` steps); an answer saves and ends
            the run.
        before_save: Called before a checkpoint is committed: to have on disk what was logged until then.
        label: Name in front of the progress bar.
        quiet: No progress output.

    Returns:
        Counts, the best step and the validations.

    Raises:
        ConfigError: If ``selection.metric`` is not among the metrics measured.
        DivergedError: If a loss or gradient norm is not finite; with a store, where it began is in its report.
        OutOfMemoryError: If a step does not fit, however finely it is cut.
        PreemptedError: If ``stop`` gave a reason; the step it happened at is saved.
        CheckpointError: If ``resume`` finds only damaged checkpoints or those of another run.
        StorageError: If checkpoints could not be written three times in a row.
    """
    trainer = Trainer.of(method, source, config, runtime, store, fingerprint)
    trainer.log, trainer.validate, trainer.on_validation, trainer.stop = log, validate, on_validation, stop
    trainer.before_save = before_save
    trainer.begin(trainer.saver.start(resume=resume))
    for entry in trainer.done.history:
        trainer.report(entry)
    with (
        isolated_rng(runtime.device),
        Prefetch(source, config.loader_workers, trainer.total) as batches,
        Progress(trainer.total, label, done=trainer.done.step, quiet=quiet) as progress,
    ):
        while True:
            try:
                trainer.run(batches, progress)
                break
            except DivergedError as error:
                trainer.explain(error, batches)
            except (MemoryError, RuntimeError) as error:
                trainer.cut_finer(error)
    done = trainer.done
    best = best_step(done.history, config.selection)
    trainer.saver.restore(best, done.step)
    return FitResult(
        steps=done.step,
        epochs=done.step // source.steps_per_epoch,
        best_step=best,
        stopped_early=done.step < trainer.total,
        seconds=done.seconds,
        history=done.history,
    )
