"""Train a toy with all kinds of state, going on with whatever is there; print a digest of everything at the end."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nearfar.errors import PreemptedError
from nearfar.interruption import Interruption
from nearfar.messages import warn
from nearfar.runtime import Runtime
from nearfar.testing import ToyConfig, ToyContrast, ToyRows, ToyViews
from nearfar.tracking import NullRun, Run, start_local_run
from nearfar.tracking.journal import read
from nearfar.training import CheckpointStore, fit
from nearfar.training import checkpoint as checkpoint_module


class SlowViews(ToyViews):
    """Gives the killer time."""

    def batch(self, step: int) -> ToyRows:
        """As the toy's."""
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
        return super().batch(step)


def die_at_stage(stage: int) -> None:
    """SIGKILL this process at one moment of the protocol by which its second checkpoint is committed."""
    seen = 0

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal seen
            if any("step-" in str(part) for part in args) or isinstance(
                args[0] if args else None, (dict, int)
            ):
                seen += 1
                if seen == STAGES_PER_SAVE + stage:
                    os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **options)

        return call

    torch.save = guarded(torch.save)  # before anything is written
    os.fsync = guarded(os.fsync)  # of the journal, the file and the folder
    checkpoint_module._verify = guarded(checkpoint_module._verify)
    os.replace = guarded(os.replace)


STAGES_PER_SAVE = 6  # the journal's fsync, save, fsync, verify, replace, fsync of the folder


def main() -> None:
    """Argument: the folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    runtime = Runtime.start("cpu")
    method, store = ToyContrast(), CheckpointStore(folder / "checkpoints")
    resume = runtime.share(bool(store.steps()))
    run: Run = NullRun()
    if runtime.is_main:
        run = start_local_run(
            experiment="toy",
            name="toy",
            params={},
            tags={},
            outbox=folder / "outbox.jsonl",
            warn=warn,
            resume=resume,
        )
    config = ToyConfig(epochs=12, device="cpu", checkpoint={"every_steps": 7})
    if "DIE_AT_STAGE" in os.environ:
        die_at_stage(int(os.environ["DIE_AT_STAGE"]))
    with Interruption() as interruption:
        (folder / "ready").touch()  # signals are heard from here on; importing takes its time
        try:
            fit(
                method,
                SlowViews(0, runtime),
                config=config,
                runtime=runtime,
                log=run.log,
                store=store,
                resume=resume,
                stop=lambda: interruption.reason,
                before_save=run.persist,
                quiet=True,
            )
        except PreemptedError as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(error.exit_code)
    runtime.close()
    if not runtime.is_main:
        return
    digest = hashlib.sha256()
    last = store.load(store.steps()[-1])
    for _, value in sorted(last.method.items()):
        digest.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else str(value).encode())
    for name in sorted(last.optimizers):
        for _, state in sorted(last.optimizers[name]["state"].items()):
            digest.update(b"".join(state[key].numpy().tobytes() for key in sorted(state)))
    points = read(folder / "outbox.jsonl")
    assert len({point[:2] for point in points}) == len(points), "a value was recorded twice"
    digest.update(repr(sorted(points)).encode())
    sys.stdout.write(f"{digest.hexdigest()} {len(points)}\n")


if __name__ == "__main__":
    main()
