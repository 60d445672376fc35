"""The command line as a stranger meets it: answers, one-line mistakes, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nearfar import optional
from nearfar.config import yaml12
from nearfar.pipelines import recipes
from nearfar.pipelines.cli import run
from nearfar.pipelines.doctor import examine
from nearfar.pipelines.registry import find, methods
from nearfar.pipelines.settings import resolve_settings


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"data"}


def test_json_is_the_last_line(toy_file: Path, capsys: pytest.CaptureFixture[str], tiny: list[str]) -> None:
    assert run(["train", "recsys.sasrec", *tiny, f"data={toy_file}", "--json", "-q"]) == 0
    record = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(record) == {"run_id", "metrics", "output_dir"}
    assert "test/ndcg_at_10" in record["metrics"]
    assert (Path(record["output_dir"]) / "checkpoints").is_dir()


def test_json_of_a_group(toy_file: Path, capsys: pytest.CaptureFixture[str], tiny: list[str]) -> None:
    words = ["train", "recsys.sasrec", *tiny, f"data={toy_file}", "tracking.enabled=false", "--seeds", "2"]
    assert run([*words, "--json", "-q"]) == 0
    record = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert record["metrics"]["test/ndcg_at_10_n"] == 2
    assert len(list(Path(record["output_dir"]).iterdir())) == 2


def test_table_for_people(toy_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "recsys.popularity", f"data={toy_file}", "tracking.enabled=false"]) == 0
    assert "test/ndcg_at_10_filtered" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "recsys.mclrc"], 2, "unknown method 'recsys.mclrc'; did you mean 'recsys.mclrec'?"),
        (["train", "zzz"], 2, "unknown method 'zzz'; known methods: recsys.mclrec"),
        (
            ["train", "recsys.mclrec", "epoch=3"],
            2,
            "unknown key 'epoch' (command line); did you mean 'epochs'?",
        ),
        (["train", "recsys.mclrec", "epochs=x"], 2, "epochs: "),
        (["train", "recsys.mclrec", "--config", "absent.yaml"], 2, "cannot read the config file absent.yaml"),
        (["train", "recsys.mclrec", "device=gpu"], 2, "device: 'gpu' is not available here"),
        (
            ["train", "recsys.sasrec", "data={toy}", "selection.metric=val/ndcg"],
            2,
            "selection.metric: 'val/ndcg'",
        ),
        (["train", "recsys.mclrec", "data=absent"], 3, "no data set 'absent'"),
        (["train", "recsys.mclrec", "data=absent", "--seeds", "2"], 3, "no data set 'absent'"),
        (["train", "recsys.mclrec", "data={empty}"], 3, "is empty"),
        (
            ["train", "recsys.mclrec", "data=x", "data_dir=nowhere"],
            3,
            "no data set 'x' (looked for nowhere/x",
        ),
        (
            ["train", "recsys.sasrec", "data={toy}", "tracking.uri=mlruns"],
            2,
            "tracking.uri: 'mlruns' is a folder",
        ),
        (
            ["train", "recsys.sasrec", "data={toy}", "tracking.uri=sqlite:////proc/nearfar/x.db"],
            6,
            "the tracking store /proc/nearfar/x.db cannot be written",
        ),
        (["train"], 2, "Missing argument"),
        (["fly"], 2, "No such command 'fly'"),
        (["train", "recsys.sasrec", "--sedes", "3"], 2, "No such option: --sedes"),
        (["train", "recsys.sasrec", "--seeds", "0"], 2, "Invalid value for '--seeds'"),
    ],
)
def test_mistakes_are_one_line_with_their_code(
    words: list[str],
    code: int,
    message: str,
    toy_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    empty = tmp_path / "data" / "empty.inter"
    empty.touch()
    words = [word.format(toy=toy_file, empty=empty) for word in words]
    assert run(words) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("nearfar: error: ")
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert "Traceback" not in captured.err
    assert written(tmp_path) == set(), "a refused run must leave nothing behind"


@pytest.mark.row("C09")
def test_old_file_store(
    tmp_path: Path, toy_file: Path, capsys: pytest.CaptureFixture[str], tiny: list[str]
) -> None:
    (tmp_path / "mlruns" / "12").mkdir(parents=True)
    (tmp_path / "mlruns" / "12" / "meta.yaml").touch()
    assert run(["train", "recsys.sasrec", *tiny, f"data={toy_file}"]) == 2
    assert "mlflow migrate-filestore" in capsys.readouterr().err
    assert written(tmp_path) == {"mlruns"}
    assert [path.name for path in (tmp_path / "mlruns").iterdir()] == ["12"]


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "recsys.mclrec", "data=absent", "--debug"]) == 3
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.strip().splitlines()[-1].startswith("nearfar: error: no data set 'absent'")


def test_unexpected_errors_are_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("nearfar.pipelines.registry.methods", broken)
    assert run(["methods"]) == 1
    assert capsys.readouterr().err == (
        "nearfar: error: RuntimeError: a bug (run again with --debug for the traceback)\n"
    )


def test_absent_packages_come_with_their_command(
    monkeypatch: pytest.MonkeyPatch,
    toy_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tiny: list[str],
) -> None:
    absent = {"mlflow"}
    original = optional.installed
    monkeypatch.setattr(
        "nearfar.pipelines.train.installed", lambda name: name not in absent and original(name)
    )
    assert run(["train", "recsys.sasrec", *tiny, f"data={toy_file}"]) == 2
    assert 'which is not installed: pip install "nearfar[track]"' in capsys.readouterr().err
    monkeypatch.setattr("nearfar.interop.recbole.packaged.installed", lambda name: name != "recbole")
    assert run(["train", "recsys.sasrec", *tiny, "data=ml-100k", "tracking.enabled=false"]) == 2
    assert "pip install --no-deps recbole==1.2.1" in capsys.readouterr().err
    assert written(tmp_path) == set()


def test_environment_variables_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve_settings(find("recsys.sasrec"), ["seed=2"], environment={"NEARFAR_OPTIM__LR": "0.5"})
    assert (config.optim.lr, config.seed) == (0.5, 2)


def test_every_recipe_is_valid_and_belongs_to_a_method() -> None:
    folder = Path(recipes.__file__).parent
    files = sorted(folder.glob("*/*.yaml"))
    assert files
    for path in files:
        entry = find(path.parent.name)
        config = resolve_settings(entry, [f"data={path.stem}"], environment={})
        values = yaml12.load(path)
        assert values, f"{path.name} is empty"
        assert config.epochs == values.get("epochs", config.epochs)


def test_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "--json"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert names == list(methods())
    assert names[:3] == ["recsys.mclrec", "recsys.sasrec", "recsys.popularity"]
    assert names[3:6] == ["graph.pot", "graph.contrast", "graph.untrained"]
    assert names[6:8] == ["timeseries.autotcl", "timeseries.untrained"]
    assert names[8:11] == ["calibration.rcal", "calibration.balanced_softmax", "calibration.erm"]
    assert names[11:14] == ["longtail.sbcl", "longtail.supcon", "longtail.simclr"]
    assert names[14:] == ["longtail.balanced_softmax", "longtail.cross_entropy"]
    assert run(["methods"]) == 0
    assert "recsys.sasrec" in capsys.readouterr().out


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = optional.installed
    monkeypatch.setattr(
        "nearfar.pipelines.doctor.installed", lambda name: name not in ("recbole", "tsai") and original(name)
    )
    report = examine()
    states = {package.name: package for package in report.packages}
    assert states["recbole"].state == "missing"
    assert states["recbole"].command == (
        'pip install "nearfar[recbole]" && pip install --no-deps recbole==1.2.1'
    )
    assert states["tsai"].command == 'pip install "nearfar[timeseries]"'
    assert report.base["torch"]
    assert report.devices[-1] == "cpu"
    assert report.store == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert 'tsai is missing: pip install "nearfar[timeseries]"\n' in text, "to be copied as it is"
    assert (
        'recbole is missing: pip install "nearfar[recbole]" && pip install --no-deps recbole==1.2.1\n' in text
    )
    assert "device=auto takes" in text
    assert run(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["packages"]


def test_doctor_names_an_unusable_store(tmp_path: Path) -> None:
    (tmp_path / "mlruns").touch()
    assert run(["doctor"]) == 1
    report = examine()
    assert report.store_state.startswith("unusable: the tracking store")
    assert report.problems


def test_the_installed_command(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("nearfar")
    if not command.exists():
        pytest.skip("nearfar is not installed in this environment")
    answer = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert answer.stdout.startswith("nearfar ")
    bare = subprocess.run([command], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "Usage" in bare.stdout + bare.stderr
    assert "error" not in bare.stderr
