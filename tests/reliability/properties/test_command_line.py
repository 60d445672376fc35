"""P11: whatever is typed after ``nearfar``, the answer is a result or one line a mistake, and nothing else happens.

Words are real and misspelt commands, methods, flags and settings, files that are there or not, and rubbish. What would
begin to train, search or profile is stopped at the one function that does.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from unittest import mock

import pytest

from nearfar.errors import NearfarError
from nearfar.pipelines.cli import run
from nearfar.pipelines.registry import methods

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
pytest.importorskip("mlflow", reason="mlflow is not installed")

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

STARTS = (
    "nearfar.pipelines.seeds.run_jobs",
    "nearfar.pipelines.tune.tune",
    "nearfar.pipelines.profile.profile_steps",
)
# 500 lists under `ci`.
MANY = settings(
    max_examples=5 * settings().max_examples,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
    ],  # the store stays empty
)

COMMANDS = (
    "train", "tune", "profile", "evaluate", "compare", "export", "promote", "sync", "doctor", "methods", "objectives",
)  # fmt: skip
FILES = {
    "good.yaml": "seed: 3\noptim: {lr: 1e-3}\n",
    "typo.yaml": "sed: 3\n",
    "list.yaml": "- 1\n- 2\n",
    "twice.yaml": "seed: 1\nseed: 2\n",
    "broken.yaml": "seed: [1\n",
    "space.yaml": "optim.lr: {low: 1e-4, high: 1e-2, log: true}\n",
    "bytes.yaml": "seed: \ufffd\n",
    "empty.csv": "",
    "outbox.jsonl": "no journal\n",
}
PLACES = (*FILES, ".", "folder", "nowhere", "folder/nowhere.yaml", "/dev/null", "recsys/ml-100k", "0" * 32)
SETTINGS = (
    "seed=1", "epochs=3", "optim.lr=5e-4", "optim.lr=0", "optim.lr=.nan", "optim.name=lion", "optim=5",
    "optim.lrr=1", "device=cpu", "device=gpu", "data=absent", "data=ml-100k", "seed=", "=1", "seed",
    "a..b=1", "seed=[1", "epochs=true", "epochs=1e400", "epochs=-1", "objective=dcl", "objective=zzz",
    "objective.temperature=3", "objective.name=infonce", "tracking.enabled=false", "tracking.uri=mlruns",
    "num_heads=3", "seed={a: b}", "seed=1 seed=2", "seed=99999999999999999999", "data_dir=nowhere",
    "output_dir=folder", "variant=paper", "variant=papr", "selection.metric=val/x", "precision=bf16",
)  # fmt: skip
OPTIONS = (
    "--seeds", "--workers", "--resume", "--json", "--quiet", "-q", "--debug", "--config", "-c",
    "--trials", "--trial-seeds", "--study", "--storage", "--space", "--split", "--device", "--format",
    "--name", "--alias", "--uri", "--to", "--steps", "--trace", "--fix", "--metric", "-m", "--against",
    "--html", "--markdown", "--log", "--no-log", "--help", "--version",
)  # fmt: skip
VALUES = (
    "0", "1", "2", "-1", "three", "1.5", "", "val", "test", "cpu", "cuda:99", "onnx", "zip",
    "sqlite:///absent.db", "mlruns", "journal.log", "test/ndcg_at_10", *FILES,
)  # fmt: skip

# Bytes that are no UTF-8 come as lone surrogates from \udc80 on; the shell never hands over a zero.
rubbish = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12
) | st.sampled_from(
    [
        "-",
        "--",
        "---",
        "-x",
        "--=",
        "=",
        "=" * 300,
        "x" * 5000,
        "\udcff=1",
        "data=\udcff",
        "\x1b[31m",
        "a\nb=1",
        "[/bold]",
    ]
)


def misspelt(words: tuple[str, ...]) -> st.SearchStrategy[str]:
    """A word with a letter less, more, or in upper case."""
    word, place = st.sampled_from(words), st.integers(0, 12)
    return st.builds(
        lambda w, i, x: w[:i] + x + w[i + 1 :], word, place, st.sampled_from(["", "x", "-", "É"])
    )


NAMES = tuple(methods())
argument = st.one_of(
    st.sampled_from(NAMES), st.sampled_from(SETTINGS), st.sampled_from(OPTIONS), st.sampled_from(PLACES),
    st.tuples(st.sampled_from(OPTIONS), st.sampled_from(VALUES)).map("=".join),
    st.sampled_from(VALUES), misspelt(NAMES), misspelt(SETTINGS), misspelt(OPTIONS), rubbish,
)  # fmt: skip
likely = st.tuples(st.sampled_from(COMMANDS[:3]), st.sampled_from(NAMES)).flatmap(
    lambda pair: st.lists(st.sampled_from(SETTINGS) | st.sampled_from(OPTIONS) | argument, max_size=3).map(
        [*pair].__add__
    )
)
lists = likely | st.lists(argument, max_size=5).flatmap(
    lambda rest: (st.sampled_from(COMMANDS) | misspelt(COMMANDS) | rubbish).map(
        lambda command: [command, *rest]
    )
)


class StartedError(NearfarError):
    """The words were right: a run would begin."""

    exit_code = 0


def answer(words: list[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error, both encoded as a terminal's are."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with contextlib.ExitStack() as stack:
        for place in STARTS:
            stack.enter_context(mock.patch(place, side_effect=StartedError("would begin")))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        code = run(words)
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "surrogateescape"))
    return code, *texts  # type: ignore[return-value]


def check(words: list[str]) -> None:
    code, out, err = answer(words)
    assert code in (0, 2), (code, err)
    if "--debug" not in words:  # which asks for it
        assert "Traceback" not in err + out
    assert "run again with --debug" not in err, "an error nobody foresaw"
    lines = [line for line in err.splitlines() if line.startswith("nearfar: error: ")]
    assert code == 0 or lines or not words or "Usage" in out, "no word about what is wrong"
    if "--debug" not in words:
        assert err.splitlines() == [line for line in err.splitlines() if line.startswith("nearfar: ")]
    assert all(line.removeprefix("nearfar: error: ").strip() for line in lines), "an empty line"


@pytest.fixture
def folder(own_store: None) -> Path:
    """A place with an empty store and some files."""
    for name, text in FILES.items():
        Path(name).write_bytes(text.encode("utf-8").replace("\ufffd".encode(), b"\xff"))
    Path("folder").mkdir()
    return Path.cwd()


@pytest.mark.row("P11")
@MANY
@given(words=lists)
def test_any_words_get_an_answer(folder: Path, words: list[str]) -> None:
    event(words[0] if words and words[0] in COMMANDS else "other")
    check(words)


@pytest.mark.row("P11")
@pytest.mark.parametrize("method", NAMES)
@pytest.mark.parametrize("command", COMMANDS[:3])
def test_right_words_would_begin(folder: Path, command: str, method: str) -> None:
    """Else the lists above would prove nothing about them."""
    code, _, err = answer([command, method, "seed=1", "optim.lr=1e-3", "-c", "good.yaml"])
    assert (code, err) == (0, "nearfar: error: would begin\n")
