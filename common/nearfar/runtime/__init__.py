"""Where a run computes and where its randomness comes from."""

from nearfar.runtime.device import resolve_device
from nearfar.runtime.distributed import Runtime, is_main_process
from nearfar.runtime.evaluating import evaluating
from nearfar.runtime.rng import generator, initial_weights, isolated_rng, numpy_generator, stream_seed
from nearfar.runtime.transfer import to_device

__all__ = [
    "Runtime",
    "evaluating",
    "generator",
    "initial_weights",
    "is_main_process",
    "isolated_rng",
    "numpy_generator",
    "resolve_device",
    "stream_seed",
    "to_device",
]
