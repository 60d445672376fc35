"""Where a run computes and where its randomness comes from."""

from nearfar.runtime.device import resolve_device
from nearfar.runtime.distributed import Runtime
from nearfar.runtime.rng import generator, isolated_rng, numpy_generator, stream_seed

__all__ = ["Runtime", "generator", "isolated_rng", "numpy_generator", "resolve_device", "stream_seed"]
