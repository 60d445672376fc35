"""What a study is: everything its trials have in common, written down once and compared ever after."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from nearfar.config import flatten
from nearfar.errors import ConfigError

PLAN = "nearfar.plan"


@dataclass(frozen=True)
class StudyPlan:
    """What must not change while a study is continued.

    Attributes:
        method: Registered name.
        space: The search space, as :meth:`SearchSpace.describe` gives it.
        metric: Validation metric that is optimised.
        mode: Whether more of it is better.
        settings: The settings under the searched ones, flat.
        config_hash: Of those settings.
        data_digest: Of the data's content.
        seed: Decides which settings are tried.
        trial_seeds: Each trial is trained with all of them.
    """

    method: str
    space: Mapping[str, Any]
    metric: str
    mode: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    data_digest: str = ""
    seed: int = 0
    trial_seeds: tuple[int, ...] = (0,)

    @property
    def direction(self) -> str:
        """Optuna's word for ``mode``."""
        return "maximize" if self.mode == "max" else "minimize"

    def register(self, study: Any) -> None:
        """Write the plan into a new study, or compare it with that of an old one; call under the lock.

        Args:
            study: An Optuna study.

        Raises:
            ConfigError: If the study was begun with another plan; lists what differs, old and new.
        """
        plan = {**asdict(self), "trial_seeds": list(self.trial_seeds)}
        stored = study.user_attrs.get(PLAN)
        if stored is None:
            study.set_user_attr(PLAN, plan)
            return
        changed = differences(stored, plan)
        if changed:
            raise ConfigError(
                f"study '{study.study_name}' was begun with something else:\n"
                + "\n".join(f"  {line}" for line in changed)
                + "\nbegin another one with --study NAME, or give what the study was begun with"
            )


def differences(stored: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """One line per entry that differs, old and new.

    Example:
        >>> differences({"seed": 0, "settings": {"dim": 64}}, {"seed": 0, "settings": {"dim": 32}})
        ['settings.dim: 64 -> 32']
    """
    old, new = _entries(stored), _entries(plan)
    lines = []
    for key in sorted({**old, **new}):
        before, after = old.get(key, "absent"), new.get(key, "absent")
        if before != after and key != "config_hash":
            lines.append(f"{key}: {before} -> {after}")
    hashes = (old.get("config_hash"), new.get("config_hash"))
    return lines or ([f"config_hash: {hashes[0]} -> {hashes[1]}"] if hashes[0] != hashes[1] else [])


def _entries(plan: Mapping[str, Any]) -> dict[str, Any]:
    # A range is one entry: "settings" are compared one by one, ranges as a whole.
    flat = {key: value for key, value in plan.items() if key not in ("settings", "space")}
    flat |= {f"settings.{key}": value for key, value in flatten(plan.get("settings", {})).items()}
    return flat | {f"space.{key}": value for key, value in plan.get("space", {}).items()}


def sampler_seed(seed: int, ordinal: int) -> int:
    """32 bits that belong to one trial of a study.

    The sampler is seeded for each trial anew, so that a study which was interrupted draws what it would
    have drawn otherwise.

    Args:
        seed: Of the study.
        ordinal: Place of the trial among those that repeat no other.
    """
    text = f"{seed}/sampler/{ordinal}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
