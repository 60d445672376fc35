"""Settings of the recommender as keyword arguments."""

from __future__ import annotations

from nearfar.config.hyper import HyperParameters
from nearfar.recsys.mclrec.config import MCLRecConfig

# What is said in fit, save and load instead.
ELSEWHERE = {
    "data": "give the data to fit",
    "data_dir": "give the data to fit",
    "columns": "name the columns in fit",
    "output_dir": "name the folder in save",
    "tracking": "an estimator records nothing; log what evaluate returns",
}

HYPER = HyperParameters(MCLRecConfig, "MCLRecommender", ELSEWHERE)
