"""``nearfar objectives`` lists what a config can name."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nearfar.pipelines.cli import run
from nearfar.pipelines.objectives.catalogue import catalogue, offers
from nearfar.selectable import OBJECTIVES

DOMAINS = {"recsys", "graph", "timeseries", "calibration", "longtail"}


def test_json_is_one_array_and_nothing_else() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "nearfar.pipelines", "objectives", "--json"], capture_output=True, check=True
    )
    listed = json.loads(answer.stdout)
    assert answer.stderr == b""
    assert [one["name"] for one in listed] == list(OBJECTIVES)
    by_name = {one["name"]: one for one in listed}
    assert by_name["dclw"]["parameters"] == [
        {"name": "temperature", "default": 0.1, "description": "Softmax temperature."},
        {"name": "sigma", "default": 0.5, "description": "Width of the weighting."},
    ]
    assert by_name["debcse"]["needs"] == ["side", "surface"]
    assert by_name["barlow_twins"]["cost"] == "N d^2"
    assert all(one["source"] and one["summary"] for one in listed)


def test_domains_are_listed_or_refused_with_a_reason() -> None:
    for one in catalogue():
        assert set(one.domains) | set(one.refused) == DOMAINS
        assert not set(one.domains) & set(one.refused)
        assert all("it needs" in why and "but" in why for why in one.refused.values())
        assert {name.partition(".")[0] for name in one.methods} == set(one.domains)


def test_every_domain_can_have_most_of_them() -> None:
    assert {offer.domain for offer in offers().values()} == DOMAINS
    for domain in DOMAINS:
        assert sum(domain in one.domains for one in catalogue()) > 30


def test_the_table_names_them_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["objectives"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in OBJECTIVES)
