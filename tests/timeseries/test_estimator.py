"""The estimator as scikit-learn uses it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nearfar.errors import ConfigError, DataError
from nearfar.timeseries import AutoTCLEncoder

TINY = {
    "epochs": 2,
    "device": "cpu",
    "encoder__dim": 6,
    "encoder__hidden": 4,
    "encoder__depth": 2,
    "augmenter__hidden": 4,
    "augmenter__dim": 4,
}


@pytest.fixture
def x() -> NDArray[np.float64]:
    return np.random.default_rng(0).normal(3, 2, size=(10, 30, 2))


@pytest.fixture
def fitted(x: NDArray[np.float64]) -> AutoTCLEncoder:
    return AutoTCLEncoder(**TINY).fit(x)


def test_a_vector_for_every_series(fitted: AutoTCLEncoder, x: NDArray[np.float64]) -> None:
    z = fitted.transform(x)
    assert z.shape == (10, fitted.encoder_.width)
    assert np.isfinite(z).all()
    assert fitted.n_features_in_ == 2
    assert np.allclose(fitted.transform(x[3:4]), z[3:4], atol=1e-6)


def test_equal_seeds_give_equal_numbers(fitted: AutoTCLEncoder, x: NDArray[np.float64]) -> None:
    again, other = AutoTCLEncoder(**TINY).fit(x), AutoTCLEncoder(**TINY, seed=1).fit(x)
    assert np.array_equal(fitted.transform(x), again.transform(x))
    assert not np.allclose(fitted.transform(x), other.transform(x))


@pytest.mark.parametrize(
    ("pooling", "steps", "times"),
    [("max", 0, 1), ("mean", 0, 1), ("last", 0, 1), ("none", 30, 1), (4, 30, 1), ("multiscale", 30, 5)],
)
def test_pooling(
    fitted: AutoTCLEncoder, x: NDArray[np.float64], pooling: str | int, steps: int, times: int
) -> None:
    z = fitted.encode(x, pooling)  # type: ignore[arg-type]
    width = fitted.encoder_.width * times
    assert z.shape == ((10, steps, width) if steps else (10, width))


def test_missing_values_and_lengths(fitted: AutoTCLEncoder, x: NDArray[np.float64]) -> None:
    holes = x.copy()
    holes[0, 5] = np.nan
    holes[1, 20:] = np.nan
    z = fitted.transform(holes)
    assert np.isfinite(z).all()
    assert np.allclose(z[2:], fitted.transform(x)[2:], atol=1e-6)
    rows = [x[0], x[1, :20]]
    assert np.allclose(fitted.transform(rows), fitted.transform(np.stack([x[0], holes[1]])), atol=1e-6)
    assert AutoTCLEncoder(**TINY).fit([row[: 20 + i] for i, row in enumerate(x)]).transform(x).shape[0] == 10


def test_layouts(fitted: AutoTCLEncoder, x: NDArray[np.float64]) -> None:
    turned = x.transpose(0, 2, 1)
    assert np.array_equal(fitted.transform(turned, layout="NCT"), fitted.transform(x))
    with pytest.raises(
        DataError, match=r"2 channels expected as in fit, got shape \(10, 2, 30\); layout='NCT'"
    ):
        fitted.transform(turned)
    smooth = np.cumsum(x, axis=1).transpose(0, 2, 1)
    with pytest.raises(DataError, match=r"looks like \(N, C, T\)"):
        AutoTCLEncoder(**TINY).fit(smooth)
    with pytest.raises(ConfigError, match="layout: NTC or NCT"):
        fitted.transform(x, layout="TNC")  # type: ignore[arg-type]


def test_saved_and_read_back(fitted: AutoTCLEncoder, x: NDArray[np.float64], tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    again = AutoTCLEncoder.load(tmp_path / "model", device="cpu")
    assert np.allclose(again.transform(x), fitted.transform(x), atol=1e-6)
    assert again.get_params() == fitted.get_params()
    (tmp_path / "model" / "estimator.json").write_text("{}")
    with pytest.raises(DataError):
        AutoTCLEncoder.load(tmp_path / "model")


def test_scikit_learn_can_clone_and_chain_it(x: NDArray[np.float64]) -> None:
    base = pytest.importorskip("sklearn.base")
    pipeline = pytest.importorskip("sklearn.pipeline")
    linear = pytest.importorskip("sklearn.linear_model")
    made = AutoTCLEncoder(**TINY)
    assert base.clone(made).get_params() == made.get_params()
    y = np.arange(10) % 2
    chain = pipeline.make_pipeline(made, linear.LogisticRegression())
    assert chain.fit(x, y).predict(x).shape == (10,)


def test_mistakes_are_named(x: NDArray[np.float64]) -> None:
    with pytest.raises(DataError, match="not fitted"):
        AutoTCLEncoder().transform(x)
    with pytest.raises(ConfigError, match="epoch"):
        AutoTCLEncoder(epoch=3)
    with pytest.raises(ConfigError, match="selection"):
        AutoTCLEncoder(selection__every=3)
    empty, infinite = x.copy(), x.copy()
    empty[1], infinite[2, 3, 1] = np.nan, np.inf
    with pytest.raises(DataError, match="all values of series 1 are missing"):
        AutoTCLEncoder(**TINY).fit(empty)
    with pytest.raises(DataError, match="infinite"):
        AutoTCLEncoder(**TINY).fit(infinite)
    with pytest.raises(DataError, match="constant"):
        AutoTCLEncoder(**TINY).fit(np.ones((4, 20, 1)))
    with pytest.raises(DataError, match="same F"):
        AutoTCLEncoder(**TINY).fit([np.zeros((5, 2)), np.zeros((5, 3))])
