"""What a machine can do: cores, memory, disk, and operations per second; measured here, or by name from a table."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from radar_suite.chain.exits import UsageError
from radar_suite.chain.profiles import nearest

# Dense bfloat16 matrix peak (operations per second) and memory (bytes), from the makers' data sheets.
DEVICES = {
    "a100": ("NVIDIA A100 80 GB", 312e12, 80e9), "h100": ("NVIDIA H100 SXM", 989e12, 80e9),
    "h200": ("NVIDIA H200", 989e12, 141e9), "l40s": ("NVIDIA L40S", 362e12, 48e9),
    "rtx4090": ("NVIDIA RTX 4090", 165e12, 24e9),
}  # fmt: skip
# Of the peak: NeMo AutoModel's performance summary gives 41 to 43 % for LoRA on one H100; ours is not recorded.
GPU_SHARE = 0.40
# Of each core's peak. Alone a run trains at 0.28 and reads at 0.22 (benchmarks/records/training-cpu-2B.json); side by
# side, with scoring and checkpoints, less: chosen to meet the record of profile cpu (figures/cpu/run.json).
CPU_SHARE = 0.20
NAMED_CORES, NAMED_DISK = 16, 2e12  # assumed to stand beside a GPU that is asked about by name


@dataclass(frozen=True)
class Machine:
    """A device and what surrounds it.

    Attributes:
        peak: operations per second of a matrix product, on the GPU or on one core.
        share: of the peak that training and inference are assumed to reach.
        memory: bytes of the GPU, or of the machine.
        disk: free bytes where results go.
    """

    name: str
    gpu: bool
    cores: int
    peak: float
    share: float
    memory: float
    disk: float

    @property
    def lanes(self) -> int:
        """Runs that are trained at the same time."""
        from radar_lib.training.workers import MOST_WORKERS

        return 1 if self.gpu else min(self.cores, MOST_WORKERS)

    @property
    def speed(self) -> float:
        """Operations per second that the chain is assumed to reach, all lanes together."""
        return self.peak * self.share * self.lanes


def machine(device: str, *, results: Path) -> Machine:
    """The machine that this runs on ('auto', 'cpu', 'cuda'), or one of `DEVICES` with `NAMED_CORES` and `NAMED_DISK`.

    The peak of what is here is measured, which takes a second.

    Raises:
        UsageError: no such device.
    """
    if device in DEVICES:
        name, peak, memory = DEVICES[device]
        return Machine(name, True, NAMED_CORES, peak, GPU_SHARE, memory, NAMED_DISK)
    if device not in ("auto", "cpu", "cuda"):
        known = ", ".join(("auto", "cpu", "cuda", *DEVICES))
        raise UsageError(f"--device {device}: no such device.{nearest(device, DEVICES)} Known: {known}.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    import psutil
    import torch

    from radar_suite.chain.flops import matrix_peak
    from radar_suite.report.workspace import describe_device, resolve_device

    device = resolve_device(device)
    gpu = device.startswith("cuda")
    memory = torch.cuda.get_device_properties(device).total_memory if gpu else psutil.virtual_memory().total
    there = next(folder for folder in (results, *results.parents) if folder.exists())
    disk, threads = shutil.disk_usage(there).free, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peak = matrix_peak(device)
    finally:
        torch.set_num_threads(threads)
    name = describe_device(device).split(",")[0] + ("" if gpu else f", {cores} cores")
    return Machine(name, gpu, cores, peak, GPU_SHARE if gpu else CPU_SHARE, memory, disk)
