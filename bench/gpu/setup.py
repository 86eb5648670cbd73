"""The device, the sizes and the files that all steps share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import w2v_edge
from bench.peers import hardware
from bench.peers.files import Workshop
from bench.peers.sides import Device, Precision
from w2v_edge.providers import default_threads, import_onnxruntime

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")


@dataclass(frozen=True)
class Setup:
    """What the steps run, and where.

    Attributes:
        device: `cuda`, or `cpu` to try the steps themselves.
        shop: makes the checkpoint and the bundles.
        seconds: lengths of audio.
        warm_up: runs before each measurement of time.
        rounds: runs that are measured.
    """

    device: Device
    shop: Workshop
    seconds: tuple[float, ...]
    warm_up: int
    rounds: int

    @classmethod
    def of(cls, device: Device, preset: str, folder: Path) -> Setup:
        """Return the setup of a real run, or a small one for the CPU."""
        threads = 1 if device == "cpu" else default_threads()
        shop = Workshop(folder, preset, threads, print, target="cuda")
        if device == "cpu":
            return cls(device, shop, (1.0,), 1, 1)
        return cls(device, shop, (1.0, 10.0, 30.0), 5, 20)

    def load(self, precision: Precision, device: Device | None = None) -> w2v_edge.Model:
        """Load our bundle of a precision."""
        bundle = self.shop.bundle(precision)
        return w2v_edge.load(bundle, provider=device or self.device, threads=self.shop.threads)


def make_files(setup: Setup) -> dict[str, Any]:
    """Export the bundles, so that no other step's time depends on it."""
    return {precision: str(setup.shop.bundle(precision)) for precision in PRECISIONS}


def describe(setup: Setup) -> dict[str, Any]:
    """Describe the machine and its GPUs."""
    import torch

    ort = import_onnxruntime()
    found = hardware.describe() | {
        "device": setup.device,
        "model": f"{setup.shop.preset}, random weights",
        "onnxruntime": ort.__version__,
        "providers": ort.get_available_providers(),
        "cuda of torch": torch.version.cuda,
    }
    if setup.device == "cuda":
        devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        found["gpus"] = [
            {
                "name": x.name,
                "memory_gb": round(x.total_memory / 2**30, 1),
                "capability": f"{x.major}.{x.minor}",
            }
            for x in devices
        ]
        driver = Path("/proc/driver/nvidia/version")
        found["driver"] = driver.read_text().splitlines()[0] if driver.is_file() else "unknown"
    return found
