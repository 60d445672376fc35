"""Sequential recommendation: SASRec with full softmax, contrastive terms on top, honest evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nearfar.lazy import lazy_names

if TYPE_CHECKING:
    from nearfar.recsys.bootstrap import paired_bootstrap
    from nearfar.recsys.datasets import load_dataset
    from nearfar.recsys.estimator import MCLRecommender
    from nearfar.recsys.export import export_graphs
    from nearfar.recsys.interactions import Interactions
    from nearfar.recsys.mclrec import MCLRec, MCLRecConfig
    from nearfar.recsys.mmr import mmr_rerank
    from nearfar.recsys.popularity import Popularity, PopularityConfig
    from nearfar.recsys.ranking import rank_of_target, ranking_metrics
    from nearfar.recsys.recbole import register_recbole
    from nearfar.recsys.recommender import Recommender
    from nearfar.recsys.sasrec import SASRec, SASRecConfig
    from nearfar.recsys.split import LeaveOneOut, leave_one_out
    from nearfar.recsys.task import RecsysTask

_HOME = {
    "Interactions": "interactions",
    "LeaveOneOut": "split",
    "MCLRec": "mclrec",
    "MCLRecConfig": "mclrec",
    "MCLRecommender": "estimator",
    "Popularity": "popularity",
    "PopularityConfig": "popularity",
    "Recommender": "recommender",
    "RecsysTask": "task",
    "SASRec": "sasrec",
    "SASRecConfig": "sasrec",
    "export_graphs": "export",
    "leave_one_out": "split",
    "load_dataset": "datasets",
    "mmr_rerank": "mmr",
    "paired_bootstrap": "bootstrap",
    "rank_of_target": "ranking",
    "ranking_metrics": "ranking",
    "register_recbole": "recbole",
}

__all__ = [
    "Interactions",
    "LeaveOneOut",
    "MCLRec",
    "MCLRecConfig",
    "MCLRecommender",
    "Popularity",
    "PopularityConfig",
    "Recommender",
    "RecsysTask",
    "SASRec",
    "SASRecConfig",
    "export_graphs",
    "leave_one_out",
    "load_dataset",
    "mmr_rerank",
    "paired_bootstrap",
    "rank_of_target",
    "ranking_metrics",
    "register_recbole",
]

__getattr__ = lazy_names(__name__, _HOME)
