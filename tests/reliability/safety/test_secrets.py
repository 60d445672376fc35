"""Passwords and tokens: in no database, journal, file of a run, model, picture or message."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from nearfar.errors import ConfigError, StorageError
from nearfar.messages import warn
from nearfar.pipelines.cli import run
from nearfar.redaction import redacted, redacted_values
from nearfar.tracking import delivery, start_local_run, store_address

SECRET = "hunter2-s3cr3t"
TEXTS = [
    "postgresql://me:{}@db.example:5432/runs",
    "postgresql+psycopg://me:{}@db.example/runs?sslmode=require",
    "mysql://:{}@host/x",
    "https://{}@github.com/a/b.git",
    "https://me:{}@github.com/a/b.git",
    "http://me:{}@127.0.0.1:5000/#/x",
    "ssh://git:{}@host/x and postgresql://u:{}@h",
    "s3://bucket/x?X-Amz-Security-Token=1&token={}",
    "connection failed: host=db password={} user=me",
    "sqlite:////x.db?password={}",
    "'https://me:{}@host'",
    "api_key={}&x=1",
    "redis://:p@ss{}@host:6379",
]


@pytest.mark.row("L04", damages=1)
@pytest.mark.parametrize("text", TEXTS)
def test_secrets_in_texts(text: str) -> None:
    """Whatever kind of address; doing it again changes nothing."""
    clean = redacted(text.format(*[SECRET] * 2), {})
    assert SECRET not in clean
    assert "***" in clean
    assert redacted(clean, {}) == clean


@pytest.mark.parametrize(
    "text",
    [
        *(
            "sqlite:////home/me/mlruns/mlflow.db",
            "http://127.0.0.1:5000",
            "postgresql://me@db/x",
            "models:/a@champion",
        ),
        *(
            "git@github.com:a/b.git",
            "optim.lr=0.001, epochs=5",
            "user@host",
            "https://x.example/a@b?c=d",
            "mask=true",
        ),
        *("tokens=5", "a key=value pair", "num_tokens=7"),
    ],
)
def test_texts_without_secrets_stay(text: str) -> None:
    """Word for word."""
    assert redacted(text, {}) == text


@pytest.mark.row("L04", damages=1)
def test_values_of_variables_are_blanked_by_their_names(tmp_path: Path) -> None:
    """Not those that are too short to tell apart, nor paths, nor other variables."""
    environment = {
        **{
            name: f"{name.lower()}-value"
            for name in ("HF_TOKEN", "API_KEY", "DB_PASSWORD", "X_SECRET", "TOKEN")
        },
        "AWS_ACCESS_KEY_ID": "AKIA12345678",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
        "AWS_SESSION_TOKEN": "FwoGZXIv",
        "SHORT_KEY": "1",
        "KEY_FILE": "not-one",
        "SSH_KEY": str(tmp_path),
        "PWD": "/home/me",
        "LONG_KEY": "AKIA12345678x",
    }
    text = " ".join(environment.values())
    assert redacted(text, environment) == f"{'*** ' * 8}1 not-one {tmp_path} /home/me ***"
    assert redacted_values({"a": ["http://u:pw@h", 1, None], "b": ("x",)}) == {
        "a": ["http://***@h", 1, None],
        "b": ("x",),
    }


@pytest.mark.row("L04", damages=3)
def test_errors_and_messages(capsys: pytest.CaptureFixture[str]) -> None:
    """Every one of nearfar's, in the library too."""
    text = TEXTS[0].format(SECRET)
    for kind in (ConfigError, StorageError):
        assert SECRET not in str(kind(f"{text} does not answer"))
    warn(text)
    assert capsys.readouterr().err == "nearfar: postgresql://me:***@db.example:5432/runs\n"


@pytest.mark.row("L04", damages=1)
def test_an_address_is_found_again_with_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal keeps it without; sending the rest takes it from the settings, or says what is missing."""
    outbox = tmp_path / "outbox.jsonl"
    address = f"http://me:{SECRET}@127.0.0.1:1"
    run = start_local_run(
        experiment="e", name="n", params={"uri": address}, tags={"t": address}, outbox=outbox, warn=print
    )
    run.tag({"u": address})
    run.dataset("d", "1", address)
    run.finish("FAILED", f"{address} is away")
    assert SECRET not in outbox.read_text()
    outbox.with_suffix(".sent").write_text(
        json.dumps({"uri": redacted(address), "run_id": None, "offset": 0})
    )
    with pytest.raises(
        ConfigError, match=r"http://\*\*\*@127.0.0.1:1 is known without its password only; give all of it"
    ):
        store_address(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert store_address(tmp_path) == address


def planted(folder: Path) -> Mapping[str, str]:
    """Secrets in variables and in a remote of git; all of them hold the same word."""
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", f"https://me:{SECRET}-git@github.example/x.git"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "x"], cwd=folder, check=True)
    names = (
        "MLFLOW_TRACKING_PASSWORD",
        "MLFLOW_TRACKING_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "HF_TOKEN",
    )
    variables = {name: f"{SECRET}-{name}" for name in (*names, "MY_API_KEY", "PGPASSWORD", "X_SECRET")}
    return variables | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


def everything(folder: Path) -> list[str]:
    """Files, of all kinds, with the word in them."""
    files = (
        path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts
    )
    return [str(path) for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.row("L04", damages=14)
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_run_with_secrets_all_around_leaves_none(
    tmp_path: Path,
    toy_file: Path,
    tiny: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    own_store: None,
) -> None:
    """Training recorded in a database, training for a server that is away, sending, searching, asking the doctor."""
    for name, value in planted(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(delivery, "DRAIN_SECONDS", 1.0)
    server = f"http://me:{SECRET}-uri@127.0.0.1:1"
    database = f"postgresql://me:{SECRET}-storage@127.0.0.1:1/studies"
    said: dict[str, str] = {}

    def call(code: int | None, name: str, *words: str, **variables: str) -> None:
        with monkeypatch.context() as patch:
            for variable, value in variables.items():
                patch.setenv(variable, value)
            found = run(list(words))
        output = capfd.readouterr()
        said[name] = output.out + output.err
        assert found == code if code is not None else found != 0, said[name]

    train = ("train", "recsys.sasrec", f"data={toy_file}", *tiny, "epochs=1")
    call(0, "recorded", *train, "output_dir=outputs/local")
    call(0, "away", *train, "output_dir=outputs/away", NEARFAR_TRACKING__URI=server)
    call(None, "refused", *train, f"tracking.uri={database}", "--debug")
    call(2, "wrong", *train, f"tracking.flush_seconds={server}")
    call(6, "sent", "sync", "outputs/away", NEARFAR_TRACKING__URI=server)
    call(2, "lost", "sync", "outputs/away")
    assert "is known without its password only" in said["lost"]
    call(None, "tuned", "tune", *train[1:], "--trials", "1", "--storage", database, "--study", "s")
    call(None, "examined", "doctor", "--json", MLFLOW_TRACKING_URI=server)
    assert (tmp_path / "outputs/away/outbox.jsonl").is_file()
    assert (tmp_path / "outputs/local/model/model.safetensors").is_file()
    assert everything(tmp_path) == []
    assert [name for name, text in said.items() if SECRET in text] == []
