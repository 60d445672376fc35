"""One training loop for every domain, and the contracts a method and its data fulfil for it."""

from nearfar.training.checkpoint import Checkpoint, CheckpointStore
from nearfar.training.chunked import chunked_backward
from nearfar.training.ema import EMA, cosine_momentum
from nearfar.training.lion import Lion
from nearfar.training.loop import FitResult, fit
from nearfar.training.method import BatchSource, Method, StepContext, StepOutput, Update
from nearfar.training.sensitivity import Sensitivity, finetune_only, select_modules
from nearfar.training.task import Cases, DatasetCard, Task
from nearfar.training.trainer import OnValidation, Trainer
from nearfar.training.untrained import WithoutTraining

__all__ = [
    "EMA",
    "BatchSource",
    "Cases",
    "Checkpoint",
    "CheckpointStore",
    "DatasetCard",
    "FitResult",
    "Lion",
    "Method",
    "OnValidation",
    "Sensitivity",
    "StepContext",
    "StepOutput",
    "Task",
    "Trainer",
    "Update",
    "WithoutTraining",
    "chunked_backward",
    "cosine_momentum",
    "finetune_only",
    "fit",
    "select_modules",
]
