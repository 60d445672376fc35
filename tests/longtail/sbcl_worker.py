"""Trains SBCL as one of several processes, or alone, without and with a queue, and prints what came of it."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.distributed as dist

from nearfar.adapters import FeatureInputs
from nearfar.classification.row_batches import RowBatches
from nearfar.encoders import MLP
from nearfar.longtail.sbcl.config import SBCLConfig
from nearfar.longtail.sbcl.method import SBCL
from nearfar.runtime import Runtime, generator
from nearfar.training import fit


def trained(runtime: Runtime, queue: int) -> dict[str, Any]:
    """Subclasses, and numbers that stand for weights and temperatures."""
    y = torch.arange(3).repeat_interleave(torch.tensor([28, 8, 5]))
    x = 2.0 * torch.eye(3, 6)[y] + torch.randn(41, 6, generator=generator(0, "rows"))
    config = SBCLConfig.model_validate(
        {
            "data": "given",
            "device": "cpu",
            "epochs": 4,
            "batch_size": 9,  # cut unevenly by two
            "warmup_epochs": 1.0,
            "dim": 4,
            "subclasses": {"delta": 5, "every": 2},
            "queue": {"size": queue},
        }
    )
    # In single precision round-off could tip a clustering over.
    encoder = MLP(6, (8, 5), generator=generator(0, "encoder")).double()
    method = SBCL(config, encoder, FeatureInputs(x.double()), y, 3)
    source = RowBatches(method.inputs, y, config.batch_size, config.seed)
    fit(method, source, config=config, runtime=runtime, quiet=True)
    weights = torch.cat([p.detach().flatten() for p in method.projected.parameters()])
    return {
        "subclasses": method.subclasses.tolist(),
        "temperatures": method.temperatures.tolist(),
        "weights": weights.tolist(),
    }


def main() -> None:
    """Train twice."""
    torch.set_num_threads(1)
    runtime = Runtime.start("cpu")
    sys.stdout.write(json.dumps([trained(runtime, queue) for queue in (0, 20)]))
    if runtime.group is not None:
        dist.barrier()
    runtime.close()


if __name__ == "__main__":
    main()
