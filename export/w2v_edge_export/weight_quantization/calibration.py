"""Calibration: audio, and the inputs of each matrix product on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from w2v_edge import data
from w2v_edge.audio import Waveform, find_audio, read_audio
from w2v_edge.bundle.geometry import Geometry
from w2v_edge.errors import InputError
from w2v_edge.model.config import ModelConfig
from w2v_edge_export.deployable.frontend import overlap
from w2v_edge_export.deployable.layers import Conv, GroupedConv, Linear
from w2v_edge_export.deployable.ops import windows
from w2v_edge_export.trace import Part
from w2v_edge_export.weight_quantization.rounding import inverse_factor

MAX_FILES = 96
"""Most files that are read; of more, an evenly spaced selection."""

MAX_FRAMES = 12_000
"""Most frames that are used, 4 minutes at 20 ms; the same number from each file."""

PIECE_FRAMES = 500
"""Longest chunk that is run at once, 10 s at 20 ms."""


def calibration_audio(
    folder: Path | None, rate: int, geometry: Geometry
) -> tuple[list[Waveform], list[Waveform]]:
    """Read calibration audio, and split it into halves.

    Args:
        folder: folder of audio files; None for the recordings in the package.
        rate: sample rate of the model in Hz.
        geometry: frames of the model.

    Returns:
        Chunks (samples,) to calibrate on, and chunks to measure on; no sample is in both.

    Raises:
        InputError: no audio, or too little.
        AudioFileError: a file cannot be read.
    """
    clips = list(data.clips(rate).values()) if folder is None else _read(folder, rate)
    share = MAX_FRAMES * geometry.hop // max(1, len(clips))
    calibrating, measuring = [], []
    for clip in clips:
        half = min(len(clip), share) // 2
        calibrating += _pieces(clip[:half], geometry)
        measuring += _pieces(clip[half : 2 * half], geometry)
    if not measuring or not np.concatenate(measuring).any():
        raise InputError(
            f"{folder}: found no speech to calibrate with; expected a folder of audio files, "
            "a minute or more in all"
        )
    return calibrating, measuring


def _read(folder: Path, rate: int) -> list[Waveform]:
    if not folder.exists():
        raise InputError(f"{folder}: no such file or folder; expected a folder of audio files")
    paths = [path for path, _ in find_audio([folder])]
    step = max(1, -(-len(paths) // MAX_FILES))
    return [read_audio(path, rate) for path in paths[::step]]


def _pieces(clip: Waveform, geometry: Geometry) -> list[Waveform]:
    count = max(1, -(-len(clip) // (PIECE_FRAMES * geometry.hop)))
    return [x for x in np.array_split(clip, count) if len(x) >= geometry.min_samples]


SAMPLED_ROWS = 512
"""Rows kept for each layer, spread over all audio, for its ranges and its noise."""

Product = Linear | Conv | GroupedConv


@dataclass
class LayerStatistics:
    """Statistics of the inputs of a layer.

    Attributes:
        low: smallest input.
        high: largest input.
        output_low: smallest output, without the bias; of layers that share inputs, of all.
        output_high: largest output.
        rows: (r, k) sampled inputs; for a `GroupedConv` (r, d), single frames.
        gram: (k, k) sums of products of two inputs, each row scaled to unit power; None for a
            `GroupedConv`.
        frames: number of rows seen.
    """

    low: float = 0.0
    high: float = 0.0
    output_low: float = 0.0
    output_high: float = 0.0
    rows: Tensor = field(default_factory=lambda: torch.zeros(0))
    gram: Tensor | None = None
    frames: int = 0

    def widen(self, outputs: Tensor) -> None:
        """Widen the range of the outputs by more of them."""
        self.output_low = min(self.output_low, float(outputs.amin()))
        self.output_high = max(self.output_high, float(outputs.amax()))

    @cached_property
    def factor(self) -> Tensor | None:
        """(k, k) the `inverse_factor` of the gram."""
        return None if self.gram is None else inverse_factor(self.gram)


def products(parts: Mapping[str, Part]) -> dict[str, Product]:
    """Return the matrix products of all parts by name, such as `context.blocks.0.attention.key`."""
    return {
        f"{part.name}.{name}": module
        for part in parts.values()
        for name, module in part.module.named_modules()
        if isinstance(module, Linear | Conv | GroupedConv)
    }


@torch.inference_mode()
def run_twins(
    parts: Mapping[str, Part], config: ModelConfig, waveform: Waveform
) -> tuple[Tensor, Tensor]:
    """Run the twins in PyTorch on one waveform (samples,): features and context (1, n, d)."""
    geometry = config.geometry
    frames = geometry.frames(len(waveform))
    lengths = torch.tensor([len(waveform)])
    start = torch.tensor(0)
    samples = torch.from_numpy(waveform).unsqueeze(0)
    span = frames * geometry.hop + overlap(config.feature_encoder.layers)
    right = span - geometry.left_padding - len(waveform)
    tile = nn.functional.pad(samples, (geometry.left_padding, max(0, right)))[:, :span]
    given = {"tile": tile, "start": start, "lengths": lengths}
    if "statistics" in parts:
        given["statistics"] = _statistics(parts, config, samples)
    features = parts["frontend"].module(**given)
    return features, parts["context"].module(features, torch.tensor([frames]))[0]


def _statistics(parts: Mapping[str, Part], config: ModelConfig, samples: Tensor) -> Tensor:
    """Return the statistics (1, k) of a waveform (1, t)."""
    start, length = torch.tensor(0), samples.shape[1]
    lengths = torch.tensor([length])
    sums: dict[str, Tensor] = {}
    if "samples" in parts:
        sums["sums"], sums["squares"] = parts["samples"].module(samples, start, lengths)
        sums["samples"] = lengths
    if "moments" in parts:
        layer = config.feature_encoder.layers[0]
        count = (length - layer.kernel) // layer.stride + 1
        span = count * layer.stride + overlap([layer])
        padded = nn.functional.pad(samples, (0, max(0, span - length)))[:, :span]
        sums["total"], sums["products"] = parts["moments"].module(padded, start, lengths)
        sums["windows"] = torch.tensor([count])
    statistics: Tensor = parts["statistics"].module(**sums)
    return statistics


def observe(
    parts: Mapping[str, Part],
    config: ModelConfig,
    waveforms: Iterable[Waveform],
    names: Iterable[str],
    *,
    grams: bool = True,
) -> dict[str, LayerStatistics]:
    """Run the twins on all waveforms and return input statistics of the layers called `names`.

    Linear layers of one input, such as query, key and value, share their statistics.
    """
    modules = products(parts)
    seen = {name: LayerStatistics() for name in names}
    waveforms = list(waveforms)
    share = max(1, SAMPLED_ROWS // max(1, len(waveforms)))

    last: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            bias = modules[name].bias
            product = output if bias is None else output - bias
            for other, x in last.items():
                if x is inputs[0] and isinstance(module, Linear):
                    seen[name] = seen[other]
                    seen[name].widen(product)
                    return
            last.clear()
            seen[name].widen(product)
            if isinstance(module, Linear):
                last[name] = inputs[0]
            _add(seen[name], module, inputs[0], share, grams=grams)

        return hook

    with _hooks({modules[name]: watch(name) for name in seen}):
        for waveform in waveforms:
            run_twins(parts, config, waveform)
    return seen


def _add(seen: LayerStatistics, module: nn.Module, x: Tensor, share: int, *, grams: bool) -> None:
    if isinstance(module, Conv):
        x = windows(x, module.kernel, module.stride)
    rows = x.flatten(0, 1)
    seen.low = min(seen.low, float(rows.amin()))
    seen.high = max(seen.high, float(rows.amax()))
    picked = rows[:: max(1, len(rows) // share)][:share].clone()
    seen.rows = picked if seen.frames == 0 else torch.cat([seen.rows, picked])
    seen.frames += len(rows)
    if grams and not isinstance(module, GroupedConv):
        # Every frame has the same weight, however loud: the norms above equalise them.
        even = rows / rows.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-6)
        gram = even.T @ even
        seen.gram = gram if seen.gram is None else seen.gram.add_(gram)


@contextmanager
def _hooks(
    hooks: Mapping[nn.Module, Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]],
) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
