"""MCLRec as a RecBole model: ``Config(model=...)``, ``run_recbole("MCLRec", ...)``, the stock Trainer.

Nothing of RecBole is imported until :func:`register_recbole` or :func:`recbole_session` is called, and then only
inside :func:`nearfar.interop.recbole.compat`, which repairs RecBole 1.2.1 for present versions::

    from nearfar.recsys.recbole import recbole_session

    with recbole_session():
        from recbole.quick_start import run_recbole

        run_recbole("MCLRec", dataset="ml-100k", config_dict={"epochs": 5})
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names

if TYPE_CHECKING:
    from nearfar.recsys.recbole.conversion import to_recommender
    from nearfar.recsys.recbole.registration import recbole_session, register_recbole
    from nearfar.recsys.recbole.settings import RecBoleSettings

__all__ = ["RecBoleSettings", "recbole_session", "register_recbole", "to_recommender"]
_HOME = {
    "RecBoleSettings": "settings",
    "recbole_session": "registration",
    "register_recbole": "registration",
    "to_recommender": "conversion",
}

__getattr__ = lazy_names(__name__, _HOME)
