"""MLflow's page in a real browser: what people see of our runs. Screenshots are kept."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nearfar.pipelines.compare import compare
from nearfar.pipelines.publication import draw, publish
from nearfar.pipelines.train import train
from nearfar.recsys.example import ring, ring_sequences
from nearfar.tracking import open_store

pytestmark = pytest.mark.services
SCREENSHOTS = Path(os.environ.get("NEARFAR_SCREENSHOTS", Path(__file__).with_name("screenshots")))
CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1500,1000",
)


@dataclass(frozen=True)
class Site:
    """A running MLflow server and what it shows.

    Attributes:
        url: Its address.
        experiment: Id of the experiment.
        runs: Ids of the runs by method.
    """

    url: str
    experiment: str
    runs: dict[str, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., Any]) -> Iterator[Site]:
    """Popularity and SASRec on a ring of items, and their comparison."""
    folder = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["device=cpu", "num_threads=1", "tracking.log_model=false"]
        outcomes = {
            "recsys.popularity": train("recsys.popularity", [*ring(folder / "data"), *words], quiet=True),
            "recsys.sasrec": train("recsys.sasrec", [*ring_sequences(folder / "data"), *words], quiet=True),
        }
        store = open_store()
        for comparison in compare(store, ["recsys/ring"]):
            publish(store, comparison, draw(store, comparison))
        runs = {name: str(outcome.run_id) for name, outcome in outcomes.items()}
        experiment = store.client.get_run(runs["recsys.sasrec"]).info.experiment_id
        with serve("-m", "mlflow", "server", "--backend-store-uri", store.uri, "--workers", "1") as url:
            yield Site(url, experiment, runs)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium with a profile of its own."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed (make test-services installs it)"
    )
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (*CHROMIUM, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield opened
    opened.quit()


@pytest.fixture
def visit(site: Site, browser: Any, request: pytest.FixtureRequest) -> Callable[..., str]:
    """``visit(path, *texts)``: open a page, wait until it shows the texts, keep a picture, return its text."""

    def look(path: str, *texts: str) -> str:
        browser.get(f"{site.url}/#{path}")
        deadline = time.monotonic() + 40
        shown = ""
        while time.monotonic() < deadline:
            shown = browser.find_element("tag name", "body").text
            if all(text in shown for text in texts):
                break
            time.sleep(0.3)
        time.sleep(1.0)  # plots are drawn after the text
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(SCREENSHOTS / f"{request.node.name}.png"))
        missing = [text for text in texts if text not in shown]
        assert not missing, f"{missing} not on the page:\n{shown[-2500:]}"
        return shown

    return look


def test_experiment_lists_the_runs(site: Site, visit: Callable[..., str]) -> None:
    visit(f"/experiments/{site.experiment}/runs", "recsys.sasrec-s0", "recsys.popularity-s0", "comparison")


def test_run_page_shows_settings_and_results(site: Site, visit: Callable[..., str]) -> None:
    run = f"/experiments/{site.experiment}/runs/{site.runs['recsys.sasrec']}"
    visit(run, "recsys.sasrec-s0", "optim.lr", "test/ndcg_at_10", "Finished")


def test_run_page_shows_the_plot(site: Site, visit: Callable[..., str], browser: Any) -> None:
    run = f"/experiments/{site.experiment}/runs/{site.runs['recsys.sasrec']}"
    visit(f"{run}/artifacts/curves/curves.png", "curves.png")
    deadline = time.monotonic() + 30
    widths: list[int] = []
    while time.monotonic() < deadline and not any(width > 300 for width in widths):
        widths = [image.size["width"] for image in browser.find_elements("tag name", "img")]
        time.sleep(0.3)
    assert any(width > 300 for width in widths), widths


def test_run_page_draws_the_curves(site: Site, visit: Callable[..., str]) -> None:
    run = f"/experiments/{site.experiment}/runs/{site.runs['recsys.sasrec']}"
    visit(f"{run}/model-metrics", "train", "val", "test", "repr")  # a section for each family


def test_compare_view_puts_two_methods_side_by_side(site: Site, visit: Callable[..., str]) -> None:
    ids = ",".join(f'"{run}"' for run in site.runs.values())
    experiments = f'["{site.experiment}"]'
    shown = visit(
        f"/compare-runs?runs=[{ids}]&experiments={experiments}",
        "recsys.sasrec-s0",
        "recsys.popularity-s0",
        "perf/fit_seconds",  # the first of the metrics; the page shows some of them at a time
    )
    for text in ("optim.lr", "selection.metric", "repr/effective_rank", "nearfar.config_hash"):
        assert text in shown
