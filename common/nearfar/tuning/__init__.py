"""Studies: many trials of one method, by any number of processes and machines, none lost and none double.

Optuna draws and keeps; what is here makes it survive kills. Importing this imports neither Optuna nor torch.
"""

from nearfar.tuning.budget import pruner
from nearfar.tuning.crew import run_crew
from nearfar.tuning.journal import heal_journal
from nearfar.tuning.once import once
from nearfar.tuning.plan import StudyPlan
from nearfar.tuning.space import Choice, Float, Int, SearchSpace
from nearfar.tuning.stale import close_stale
from nearfar.tuning.storage import StudyStore, check_place, find_place, open_storage
from nearfar.tuning.worker import Attempt, Work, work

__all__ = [
    "Attempt",
    "Choice",
    "Float",
    "Int",
    "SearchSpace",
    "StudyPlan",
    "StudyStore",
    "Work",
    "check_place",
    "close_stale",
    "find_place",
    "heal_journal",
    "once",
    "open_storage",
    "pruner",
    "run_crew",
    "work",
]
