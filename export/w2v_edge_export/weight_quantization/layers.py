"""Quantization of every matrix product, and the noise that it adds to the output."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from w2v_edge.audio import Waveform
from w2v_edge.model.config import ModelConfig
from w2v_edge_export.deployable.layers import Conv, GroupedConv
from w2v_edge_export.stages import Stages
from w2v_edge_export.trace import Part
from w2v_edge_export.weight_quantization.calibration import (
    LayerStatistics,
    Product,
    observe,
    products,
)
from w2v_edge_export.weight_quantization.plan import (
    LEVELS,
    SMALLEST,
    FixedRange,
    Layer,
    QuantizedLayer,
    round_to_four_bits,
)
from w2v_edge_export.weight_quantization.rounding import (
    ANY_PAIR,
    LIMITS,
    inverse_factor,
    round_weight,
)

MIN_INPUTS = 32
"""Products over fewer inputs are not faster in int8."""

FLOAT_LAYERS = (
    "quantizer.scorer",
    "frontend.conv.0",
    "statistics.conv",
    "context.head.",
    "context.final_projection",
)
"""Prefixes of layers that stay in float: logits decide on codes and labels at 1 % of the cost, a
waveform has more than 8 bits, and statistics are computed in float64."""

GRAM_BYTES = 10**9
"""Most statistics held at once; the audio is run again for the remaining layers."""

QUIET = 1e-3
"""Static ranges, which need no search for the largest input, are used below this noise, -30 dB."""

BALANCED = 0.25
"""Inputs are balanced, for one more multiplication, where the noise falls to this share."""

UNEVEN = 8.0
"""Balancing is tried where the largest input exceeds the median by this factor."""


@dataclass(frozen=True)
class Candidate:
    """A quantized layer that the search may return to float.

    Attributes:
        layer: the quantized layer.
        noise: error power over signal power of its output, at the worst decile of frames.
        cost: share of the model's multiplications.
    """

    layer: Layer
    noise: float
    cost: float

    @property
    def sensitivity(self) -> float:
        """Noise over cost: layers with the highest return to float first."""
        return self.noise / self.cost


def make_candidates(
    parts: Mapping[str, Part],
    config: ModelConfig,
    calibrating: Sequence[Waveform],
    measuring: Sequence[Waveform],
    stages: Stages | None = None,
    *,
    between_integers: bool = False,
) -> list[Candidate]:
    """Quantize every layer that gets faster, and return them by falling sensitivity.

    Args:
        parts: the twins.
        config: of the model.
        calibrating: audio for rounding and ranges.
        measuring: other audio for the noise, since a rounding fits its own audio best.
        stages: gets a step for each layer.
        between_integers: round inputs and outputs to 16 bits, for accelerators.
    """
    modules = {
        name: module
        for name, module in products(parts).items()
        if not name.startswith(FLOAT_LAYERS) and _inputs(module) >= MIN_INPUTS
    }
    costs = {name: _multiplications(name, module, config) for name, module in modules.items()}
    total = sum(costs.values())
    found: list[Candidate] = []
    stages = stages or Stages()
    for names in _groups(modules):
        seen = observe(parts, config, calibrating, names)
        others = observe(parts, config, measuring, names, grams=False)
        for name in names:
            stages.step(f"rounding {name}", len(found), len(modules))
            given = name, modules[name], seen.pop(name), others[name].rows
            layer, noise = _between_integers(*given) if between_integers else _quantize(*given)
            found.append(Candidate(layer, noise, costs[name] / total))
    return sorted(found, key=lambda x: x.sensitivity, reverse=True)


def make_four_bit_candidates(
    parts: Mapping[str, Part], config: ModelConfig, waveforms: Sequence[Waveform]
) -> list[Candidate]:
    """Round the weights of the context network's linear layers to 4 bits."""
    modules = {
        name: module
        for name, module in products(parts).items()
        if name.startswith("context.")
        and not name.startswith(FLOAT_LAYERS)
        and not isinstance(module, GroupedConv)
    }
    total = sum(_multiplications(name, module, config) for name, module in products(parts).items())
    seen = observe(parts, config, waveforms, modules, grams=False)
    found = []
    for name, module in modules.items():
        weight = module.weight.detach()
        layer = round_to_four_bits(name, weight)
        cost = _multiplications(name, module, config) / total
        found.append(Candidate(layer, _noise(layer, weight, seen[name].rows), cost))
    return sorted(found, key=lambda x: x.sensitivity, reverse=True)


def _quantize(
    name: str, module: Product, seen: LayerStatistics, rows: Tensor
) -> tuple[QuantizedLayer, float]:
    """Quantize a layer with the cheapest scheme of low noise on `rows`."""
    if isinstance(module, GroupedConv):
        return _quantize_grouped(name, module, seen, rows)
    weight = module.weight.detach()
    # With little audio, a rounding fitted to it may be worse than rounding to nearest.
    roundings = [round_weight(weight, factor) for factor in (seen.factor, None)]
    best, noise = _best(weight, rows, [QuantizedLayer(name, "row", x) for x in roundings])
    rounded = best.weight
    # In the front end, frames of a pause are far quieter than a static range.
    if not name.startswith("frontend."):
        static = QuantizedLayer(name, "static", rounded, *_static_range(seen))
        static_noise = _noise(static, weight, rows)
        if static_noise <= max(QUIET, noise):
            best, noise = static, static_noise
    balance = _balance(weight, seen.rows, module.kernel if isinstance(module, Conv) else 1)
    if balance is not None and seen.gram is not None:
        gram = seen.gram / balance / balance.unsqueeze(1)
        rounded = round_weight(weight * balance.unsqueeze(1), inverse_factor(gram))
        layer = QuantizedLayer(name, "row", rounded, balance=balance)
        balanced_noise = _noise(layer, weight, rows)
        if balanced_noise <= BALANCED * noise:
            best, noise = layer, balanced_noise
    return best, noise


def _between_integers(
    name: str, module: Product, seen: LayerStatistics, rows: Tensor
) -> tuple[QuantizedLayer, float]:
    """Quantize a layer with inputs and outputs in 16 bits, whose fixed ranges have room."""
    make = partial(
        QuantizedLayer,
        name,
        "static16",
        inputs=FixedRange.around(seen.low, seen.high),
        outputs=FixedRange.around(seen.output_low, seen.output_high),
    )
    to_int8 = partial(round_weight, ranges=LIMITS[-1:], pair=ANY_PAIR)
    if isinstance(module, GroupedConv):
        weight = _rows_of(module)
        layer = make(to_int8(weight, None))
        return layer, _grouped_noise(layer, weight, rows)
    weight = module.weight.detach()
    return _best(weight, rows, [make(to_int8(weight, x)) for x in (seen.factor, None)])


def _best(
    weight: Tensor, rows: Tensor, layers: Sequence[QuantizedLayer]
) -> tuple[QuantizedLayer, float]:
    """Return the layer of the least noise, and that noise."""
    noise, index = min((_noise(x, weight, rows), i) for i, x in enumerate(layers))
    return layers[index], noise


def _quantize_grouped(
    name: str, module: GroupedConv, seen: LayerStatistics, rows: Tensor
) -> tuple[QuantizedLayer, float]:
    """Quantize a grouped convolution; its noise is estimated from single frames."""
    weight = _rows_of(module)
    # Where frames have an odd number of channels, neighbours change with the shift of the band.
    even = module.weight.shape[1] % 2 == 0
    rounded = round_weight(weight, None, LIMITS if even else LIMITS[:1])
    layer = QuantizedLayer(name, "static", rounded, *_static_range(seen))
    return layer, _grouped_noise(layer, weight, rows)


def _rows_of(module: GroupedConv) -> Tensor:
    """Lay out the weight of a grouped convolution as (kernel * c, d)."""
    return module.weight.detach()[:, :, 0].permute(2, 1, 0).flatten(0, 1)


def _grouped_noise(layer: QuantizedLayer, weight: Tensor, rows: Tensor) -> float:
    inputs = _worst_decile(rows, layer.rounded(rows) - rows)
    error = (layer.weight.dequantized - weight).square().sum()
    return inputs + float(error / weight.square().sum().clamp(min=1e-30))


def _static_range(seen: LayerStatistics) -> tuple[float, int]:
    """Return the scale and zero point with the least error of rounding and clipping."""
    rows, best, least = seen.rows, (1.0, 0), float("inf")
    for share in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.35, 0.25):
        low, high = min(0.0, seen.low) * share, max(0.0, seen.high) * share
        scale = max((high - low) / LEVELS, SMALLEST)
        zero = round(-low / scale)
        rounded = ((rows / scale).round() + zero).clamp(0, LEVELS).sub(zero) * scale
        cost = float((rounded - rows).square().mean())
        if cost < least:
            best, least = (scale, zero), cost
    return best


def _balance(weight: Tensor, rows: Tensor, kernel: int) -> Tensor | None:
    """Return divisors (k,) that balance inputs and weight; None without outliers.

    Each is the root of the ratio of the largest input to the largest weight (Xiao et al.,
    "SmoothQuant", 2023, with a migration strength of a half).
    """
    # A channel has one divisor in all frames of the window.
    largest = rows.abs().amax(dim=0).view(kernel, -1).amax(dim=0).clamp(min=SMALLEST)
    if largest.amax() < UNEVEN * largest.median():
        return None
    weights = weight.abs().amax(dim=1).view(kernel, -1).amax(dim=0).clamp(min=SMALLEST)
    divisors = (largest / weights).sqrt()
    return (divisors / divisors.log().mean().exp()).repeat(kernel)


def _noise(layer: Layer, weight: Tensor, rows: Tensor) -> float:
    exact = rows @ weight
    return _worst_decile(exact - exact.mean(dim=0), layer(rows) - exact)


def _worst_decile(signal: Tensor, error: Tensor) -> float:
    """Return error power over signal power at the worst decile of frames (r, n)."""
    power = signal.square().sum(dim=1).clamp(min=SMALLEST**2)
    return float((error.square().sum(dim=1) / power).quantile(0.9))


def _inputs(module: Product) -> int:
    shape = module.weight.shape
    return shape[1] * shape[3] if isinstance(module, GroupedConv) else shape[0]


def _multiplications(name: str, module: Product, config: ModelConfig) -> float:
    """Return the multiplications for each context frame."""
    steps = 1
    if name.startswith("frontend.conv."):
        for layer in config.feature_encoder.layers[int(name.rpartition(".")[2]) + 1 :]:
            steps *= layer.stride
    return float(module.weight.numel() * steps)


def _groups(modules: Mapping[str, Product]) -> Iterator[list[str]]:
    """Yield groups of layers whose statistics fit into `GRAM_BYTES`, one layer at least."""
    group: list[str] = []
    taken = 0
    for name, module in modules.items():
        size = 0 if isinstance(module, GroupedConv) else 4 * _inputs(module) ** 2
        if group and taken + size > GRAM_BYTES:
            yield group
            group, taken = [], 0
        group.append(name)
        taken += size
    yield group
