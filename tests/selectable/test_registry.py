"""The registry against the modules it names."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import pytest

import nearfar.objectives
from nearfar.objectives.moco import QueuedObjective
from nearfar.objectives.objective import Objective
from nearfar.objectives.softmax import SoftmaxObjective
from nearfar.selectable import OBJECTIVES, ObjectiveEntry
from nearfar.selectable.offers import NEEDED
from nearfar.selectable.settings import ObjectiveSettings, SlowCopySettings
from nearfar.selectable.view_batch import ViewBatch

# Chosen under another module (with the predictor they need), or made of others by who calls them.
ABSTRACT = (Objective, SoftmaxObjective, QueuedObjective)
NOT_BY_NAME = {"BYOL", "SimSiam", "WeightedSum"}


def loss_class(entry: ObjectiveEntry) -> Any:
    module, _, name = entry.loss.partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("entry", OBJECTIVES.values(), ids=lambda entry: entry.name)
def test_settings_fit_the_module(entry: ObjectiveEntry) -> None:
    accepted = inspect.signature(loss_class(entry).__init__).parameters
    chosen = entry.settings.model_validate({})
    assert chosen.name == entry.name
    missing = [name for name in (*chosen.arguments, *entry.sizes) if name not in accepted]
    assert not missing
    sizes = {"dim": 8, "num_classes": 3, "num_rows": 10}
    loss_class(entry)(**{size: sizes[size] for size in entry.sizes}, **chosen.arguments)


@pytest.mark.parametrize("entry", OBJECTIVES.values(), ids=lambda entry: entry.name)
def test_a_batch_has_what_it_takes(entry: ObjectiveEntry) -> None:
    shown = {*ViewBatch.__dataclass_fields__, "stacked", "stacked_labels", "others"}
    assert set(entry.takes) <= shown
    free = {"first", "second", "stacked", "rng"}
    assert set(entry.takes) - free <= set(NEEDED)
    forward = list(inspect.signature(loss_class(entry).forward).parameters)[1:]
    assert len(forward) >= len(entry.takes)
    assert issubclass(entry.settings, SlowCopySettings) == ("target" in entry.needs)


def test_descriptions_are_there_and_settings_are_not_shared() -> None:
    kinds = [entry.settings for entry in OBJECTIVES.values()]
    assert len(set(kinds)) == len(kinds)
    assert all(issubclass(kind, ObjectiveSettings) for kind in kinds)
    for entry in OBJECTIVES.values():
        assert entry.summary
        assert entry.source
        for name, field in entry.settings.model_fields.items():
            assert name == "name" or field.description, f"{entry.name}.{name}"


def test_every_objective_can_be_chosen() -> None:
    """A loss that somebody adds and forgets here would never be found by name."""
    found = set()
    for info in pkgutil.iter_modules(nearfar.objectives.__path__, "nearfar.objectives."):
        if info.name.endswith("fused_kernels"):  # needs triton, has no objective
            continue
        for name, kind in vars(importlib.import_module(info.name)).items():
            own = inspect.isclass(kind) and kind.__module__ == info.name and not name.startswith("_")
            if own and issubclass(kind, Objective) and kind not in ABSTRACT:
                found.add(name)
    by_name = {entry.loss.partition(":")[2] for entry in OBJECTIVES.values()}
    assert found - by_name == NOT_BY_NAME
