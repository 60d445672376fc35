"""What one computation costs: process CPU seconds, peak memory, and the host's matrix product rate beside it.

Memory is honest only in a process that did nothing else before, and a thread count only where it was set
before torch was imported: :func:`in_fresh_process` starts one process per figure. Run alone, this file prints
the rate.

    python benchmarks/measure.py [--device cuda]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Step = Callable[[], object]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
TILE, WIDTH = 768, 128
CUDA_TILE = 8192
FLOAT32_ERROR = 1e-6  # of the largest element, over the width above
CLEAR_REFS = Path("/proc/self/clear_refs")


class ChildFailedError(Exception):
    """A measuring process ended without figures; says how."""


@dataclass(frozen=True)
class Cost:
    """What a step costs.

    Attributes:
        seconds: Process CPU time; on a GPU the time between two events. Best of several.
        wall: Elapsed time of the same repetition.
        megabytes: Peak growth above what was allocated before, in 10^6 bytes.
        memory_by: How the peak was read.
    """

    seconds: float
    wall: float
    megabytes: float
    memory_by: str


def in_fresh_process(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a Python file on one thread and return the JSON object in the last line it prints.

    Args:
        arguments: File and its arguments.
        environment: Variables to set besides those of the caller.

    Returns:
        The object.

    Raises:
        ChildFailedError: If the process fails, with its last line of error output.
    """
    variables = {**os.environ, **ONE_THREAD, **environment}
    done = subprocess.run(
        [sys.executable, *arguments], env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        killed = f"ended by signal {-done.returncode}" if done.returncode < 0 else "failed"
        raise ChildFailedError(done.stderr.strip().rpartition("\n")[2] or killed)
    found: dict[str, Any] = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    return found


def cost(step: Step, device: str, *, seconds: float = 3.0, most: int = 15) -> Cost:
    """Peak memory of the first call, then the best time of the calls that fit into ``seconds``.

    Args:
        step: What to measure; code and caches it needs should have been touched by a smaller call.
        device: ``"cpu"`` or ``"cuda"``.
        seconds: Time to spend; at least two calls are made after the first.
        most: Calls at most.

    Returns:
        The cost.
    """
    if device == "cpu":
        megabytes, memory_by = _peak_resident(step)
    else:
        megabytes, memory_by = _peak_allocated(step), "torch.cuda.max_memory_allocated"
    timed = _timed_cpu if device == "cpu" else _timed_cuda
    times: list[tuple[float, float]] = []
    while len(times) < 2 or (len(times) < most and sum(wall for _, wall in times) < seconds):
        times.append(timed(step))
    return Cost(*min(times), megabytes, memory_by)


def cost_of_one_call(step: Step) -> Cost:
    """CPU time and peak memory of a single call, for steps that cannot be repeated; on the CPU.

    Args:
        step: What to measure.

    Returns:
        The cost; watching memory by sampling, where the system has no counter, costs time as well.
    """
    times: list[tuple[float, float]] = []
    megabytes, memory_by = _peak_resident(lambda: times.append(_timed_cpu(step)))
    return Cost(*times[0], megabytes, memory_by)


def _timed_cpu(step: Step) -> tuple[float, float]:
    wall, started = time.perf_counter(), time.process_time()
    step()
    return time.process_time() - started, time.perf_counter() - wall


def _timed_cuda(step: Step) -> tuple[float, float]:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    wall = time.perf_counter()
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3, time.perf_counter() - wall


def _peak_allocated(step: Step) -> float:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _peak_resident(step: Step) -> tuple[float, str]:
    if sys.platform != "linux":
        step()
        return float("nan"), "nothing (needs Linux)"
    # Memory freed earlier but kept by the allocator would be used again without showing.
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    try:
        CLEAR_REFS.write_text("5")  # sets VmHWM back to VmRSS
    except OSError:
        return _sampled_peak(step), "sampling VmRSS"
    before = _resident("VmRSS")
    step()
    return (_resident("VmHWM") - before) / 1e6, "VmHWM"


def _sampled_peak(step: Step) -> float:
    before = peak = _resident("VmRSS")
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.0005):
            peak = max(peak, _resident("VmRSS"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        step()
    finally:
        ended.set()
        watcher.join()
    return (max(peak, _resident("VmRSS")) - before) / 1e6


def _resident(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition(f"{field}:")[2].split(maxsplit=1)[0])


def free_bytes(device: str) -> int:
    """Bytes a new process may allocate, to the best of the system's knowledge.

    Args:
        device: ``"cpu"`` or ``"cuda"``.
    """
    if device != "cpu":
        return int(torch.cuda.mem_get_info()[0])
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if meminfo.exists():
        limits.append(1024 * int(meminfo.read_text().partition("MemAvailable:")[2].split(maxsplit=1)[0]))
    if (group / "memory.max").exists() and (most := (group / "memory.max").read_text().strip()) != "max":
        limits.append(int(most) - int((group / "memory.current").read_text()))
    return min(limits)


def product_rates(device: str) -> dict[str, float]:
    """GFLOP/s of float32 products (tile, width) x (width, tile), as torch routes them and through oneDNN.

    oneDNN is reached by permitting it bfloat16, which processors without matrix units for it do not use;
    where one does, the products are no longer float32 and their rate is left out.

    Args:
        device: ``"cpu"`` or ``"cuda"``; there the precision is what the user's settings permit.

    Returns:
        Rate by name of the route.
    """
    rng = torch.Generator().manual_seed(0)
    edge = TILE if device == "cpu" else CUDA_TILE
    left, right = (torch.randn(edge, WIDTH, generator=rng).to(device) for _ in range(2))
    rates = {"default": _rate(left, right)}
    backend: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if device != "cpu" or not torch.backends.mkldnn.is_available() or not hasattr(backend, "fp32_precision"):
        return rates
    before = backend.fp32_precision
    backend.fp32_precision = "bf16"
    try:
        exact = left.double() @ right.double().mT
        if (left @ right.mT - exact).abs().max() < FLOAT32_ERROR * exact.abs().max():
            rates["oneDNN"] = _rate(left, right)
    finally:
        backend.fp32_precision = before
    return rates


def _rate(left: Tensor, right: Tensor) -> float:
    out = left.new_empty(len(left), len(right))
    count = 20 if left.device.type == "cpu" else 5

    def products() -> None:
        for _ in range(count):
            torch.mm(left, right.mT, out=out)

    products()
    timed = _timed_cpu if left.device.type == "cpu" else _timed_cuda
    best = min(timed(products)[0] for _ in range(20))
    return 2e-9 * count * left.shape[1] * out.numel() / best


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description="float32 matrix product rate of one thread, or of the GPU")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    device = parser.parse_args().device
    torch.set_num_threads(1)
    edge = TILE if device == "cpu" else CUDA_TILE
    for name, rate in product_rates(device).items():
        print(f"{edge}x{WIDTH}x{edge} float32 products, {name}: {rate:,.0f} GFLOP/s")


if __name__ == "__main__":
    main()
