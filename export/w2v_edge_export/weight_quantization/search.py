"""Weight quantization within budgets: sensitive layers stay in float until they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir

from w2v_edge.agreement import json_number
from w2v_edge.errors import AccuracyError, ConfigError
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.head_config import CtcHeadConfig
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.providers.bfloat16 import BF16
from w2v_edge_export.graphs import GraphAssembler
from w2v_edge_export.measuring import measuring_execution
from w2v_edge_export.parts import lower_part, lower_parts, parts
from w2v_edge_export.stages import Stages
from w2v_edge_export.targets import Target
from w2v_edge_export.weight_quantization.accuracy import Accuracy, AccuracyEvaluator
from w2v_edge_export.weight_quantization.calibration import calibration_audio
from w2v_edge_export.weight_quantization.half import HalfPrecision, exposed, overflowing
from w2v_edge_export.weight_quantization.layers import (
    Candidate,
    make_candidates,
    make_four_bit_candidates,
)
from w2v_edge_export.weight_quantization.plan import Plan

FRONTEND = "frontend."

LARGEST_SHOWN = 20

DEFAULT_COSINES = {"fp16": 0.998, "bf16": 0.999, "int8": 0.998, "int4": 0.98}

DEFAULT_DRIFTS = {"fp16": 0.05, "bf16": 0.04, "int8": 0.05, "int4": 0.05}


@dataclass(frozen=True)
class Budgets:
    """Budgets of an export with quantized weights.

    Attributes:
        min_cosine: minimum cosine of a context frame with PyTorch's, at the worst decile.
        max_code_drift: maximum fraction of codes that differ from PyTorch's.
        require_speedup: minimum speed of the encoder over float32, as a ratio, on this machine.
        max_label_change: maximum fraction of best labels of a CTC model that change; None for any.
        max_shift: maximum time in milliseconds by which its labels move, at the 99th percentile;
            None for any.
    """

    min_cosine: float = DEFAULT_COSINES["int8"]
    max_code_drift: float = DEFAULT_DRIFTS["int8"]
    require_speedup: float = 1.2
    max_label_change: float | None = None
    max_shift: float | None = None

    def check(self, config: ModelConfig) -> None:
        """Check that a model has what the budgets hold.

        Raises:
            ConfigError: budgets of labels, and the model has no CTC head.
        """
        of_labels = self.max_label_change is not None or self.max_shift is not None
        if of_labels and not isinstance(config.head, CtcHeadConfig):
            raise ConfigError(
                "--max-label-change and --max-shift: found a model without a CTC head, whose "
                "labels they hold; leave them out"
            )

    def problems(self, found: Accuracy) -> list[str]:
        """Return the exceeded budgets of accuracy, one line each."""
        problems = []
        # `not x >= y`, so that NaN exceeds every budget.
        if not found.context_cosine >= self.min_cosine:
            problems.append(
                f"context cosine {found.context_cosine:.5f}, at least {self.min_cosine:g} wanted"
            )
        if not found.drift_bound <= self.max_code_drift:
            problems.append(
                f"code drift {found.code_drift:.4f} (up to {found.drift_bound:.4f} on other "
                f"audio), at most {self.max_code_drift:g} wanted"
            )
        change, shift = found.label_drift, found.label_shift
        limit = self.max_label_change
        if limit is not None and change is not None and not change <= limit:
            problems.append(f"{change:.4f} of best labels change, at most {limit:g} wanted")
        if self.max_shift is not None and shift is not None and not shift <= self.max_shift:
            problems.append(f"labels move by {shift:.0f} ms, at most {self.max_shift:g} wanted")
        return problems


@dataclass(frozen=True)
class QuantizationResult:
    """Result of a weight quantization: which layers are quantized, and how accurate that is.

    Attributes:
        budgets: the budgets asked for.
        accuracy: accuracy of the final assignment.
        speedup: speed over float32 as a ratio; None where it was not measured.
        candidates: all layers, the most sensitive first.
        floats: names of the layers that stay in float.
        half: pass that turns the other products into fp16; None for integer weights.
        ranges: largest magnitude of each value in fp16.
    """

    budgets: Budgets
    accuracy: Accuracy
    speedup: float | None
    candidates: Sequence[Candidate]
    floats: frozenset[str] = field(default_factory=frozenset)
    half: HalfPrecision | None = None
    ranges: Mapping[str, float] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """The exceeded budgets, one line each."""
        budgets = self.budgets
        problems = overflowing(self.ranges)[:1] + budgets.problems(self.accuracy)
        if self.speedup is not None and not self.speedup >= budgets.require_speedup:
            problems.append(
                f"{self.speedup:.4g} times the speed of float32 here, at least "
                f"{budgets.require_speedup:g} wanted (--require-speedup)"
            )
        return problems

    @property
    def plan(self) -> Plan:
        """The quantized layers."""
        return {x.layer.name: x.layer for x in self.candidates if x.layer.name not in self.floats}

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a manifest holds it, in valid JSON; see `json_number`."""
        accuracy = asdict(self.accuracy) | {"drift_bound": self.accuracy.drift_bound}
        return {
            "budgets": {k: v for k, v in asdict(self.budgets).items() if v is not None},
            "measured": {k: _short(v) for k, v in (accuracy | {"speedup": self.speedup}).items()},
            "layers": [
                {
                    "name": x.layer.name,
                    "ranges": "none" if x.layer.name in self.floats else x.layer.scheme,
                    "precision": "fp32" if x.layer.name in self.floats else x.layer.precision,
                    "balanced": x.layer.balance is not None,
                    "noise": _short(x.noise),
                    "cost": _short(x.cost),
                }
                for x in self.candidates
            ],
            "largest_values": {
                name: _short(value)
                for name, value in sorted(self.ranges.items(), key=lambda x: -x[1])[:LARGEST_SHOWN]
            },
        }


class AccuracyBudgetError(AccuracyError):
    """No assignment holds the budgets; `outcome` has the measurements and the ranking."""

    def __init__(self, outcome: QuantizationResult) -> None:
        """Name the exceeded budgets in one line."""
        super().__init__(
            f"the budgets cannot be held: {'; '.join(outcome.problems)}; no bundle was written; "
            "relax a budget, or export --precision fp32"
        )
        self.outcome = outcome


class LayerSearch:
    """Returns layers to float, the most sensitive first, until the budgets hold."""

    def __init__(
        self,
        config: ModelConfig,
        target: Target,
        traced: Mapping[str, ir.Model],
        evaluator: AccuracyEvaluator,
        stages: Stages | None = None,
    ) -> None:
        self.config = config
        self.target = target
        self.traced = traced
        self.evaluator = evaluator
        self.stages = stages or Stages()
        self._lowered: dict[str, list[tuple[frozenset[str], ir.Model]]] = {}

    def run(
        self, candidates: Sequence[Candidate], floats: frozenset[str], budgets: Budgets
    ) -> QuantizationResult:
        """Search from an assignment with `floats` already in float.

        Raises:
            AccuracyBudgetError: even the last assignment does not hold the budgets.
        """
        if self.config.quantizer_input == "features":
            front = [x for x in candidates if x.layer.name.startswith(FRONTEND)]
            # The code drift depends on the front end only, and is quick to measure.
            outcome = QuantizationResult(budgets, _UNKNOWN, None, front, floats)
            floats = self._reduce(outcome, self._tokenizer).floats
        outcome = QuantizationResult(budgets, _UNKNOWN, None, candidates, floats)
        return self._finish(self._reduce(outcome, self._all))

    def measure(self, candidates: Sequence[Candidate], budgets: Budgets) -> QuantizationResult:
        """Measure the assignment with every candidate quantized.

        Raises:
            AccuracyBudgetError: it does not hold the budgets.
        """
        outcome = QuantizationResult(budgets, _UNKNOWN, None, candidates)
        return self._finish(replace(outcome, accuracy=self._all(outcome.plan)))

    def measure_half(self, budgets: Budgets) -> QuantizationResult:
        """Measure the fp16 graphs, and the largest magnitude of every value in them.

        Raises:
            AccuracyBudgetError: it does not hold the budgets, or a value is too large for fp16.
        """
        half = HalfPrecision()
        graphs = self._graph("encoder", {}, half), self._tokenizer_graph({}, half)
        encoder = self._graph("encoder", {})
        ranges = half.weights | self.evaluator.magnitudes(encoder, exposed(encoder, half.values))
        # No speed is measured: fp16 targets other devices.
        accuracy = self.evaluator.measure(*graphs)
        outcome = QuantizationResult(budgets, accuracy, None, (), half=half, ranges=ranges)
        if outcome.problems:
            raise AccuracyBudgetError(outcome)
        return outcome

    def measure_arithmetic(self, budgets: Budgets) -> QuantizationResult:
        """Measure the float32 graphs in the evaluator's arithmetic, and their speed over float32.

        Raises:
            AccuracyBudgetError: it does not hold the budgets.
        """
        return self._time(QuantizationResult(budgets, self._all({}), None, ()))

    def _finish(self, outcome: QuantizationResult) -> QuantizationResult:
        """Measure the speed of an assignment that is within its accuracy budgets."""
        if outcome.problems:
            raise AccuracyBudgetError(outcome)
        if not outcome.plan:
            raise AccuracyError(
                "no layer is left in fewer bits: the budgets leave none, or none is large enough; "
                "no bundle was written; relax a budget, or export --precision fp32"
            )
        return self._time(outcome)

    def _time(self, outcome: QuantizationResult) -> QuantizationResult:
        """Measure the speed over float32, if the accuracy is within its budgets."""
        # Integers for accelerators are computed in float32 here.
        if not outcome.problems and not self.target.between_integers:
            self.stages.step("timing against float32", 1)
            encoders = [self._graph("encoder", plan) for plan in ({}, outcome.plan)]
            outcome = replace(outcome, speedup=self.evaluator.speedup(*encoders))
        if outcome.problems:
            raise AccuracyBudgetError(outcome)
        return outcome

    def _reduce(
        self, outcome: QuantizationResult, measure: Callable[[Plan], Accuracy]
    ) -> QuantizationResult:
        """Return layers to float until the measured accuracy is within budget or none is left."""
        step = 1
        while True:
            accuracy = measure(outcome.plan)
            outcome = replace(outcome, accuracy=accuracy)
            left = [x.layer.name for x in outcome.candidates if x.layer.name in outcome.plan]
            if not outcome.problems or not left:
                return outcome
            self.stages.step(f"back to float: {left[0]}", 1)
            floats = outcome.floats | set(left[: max(1, step // 2)])
            step += 1
            outcome = replace(outcome, floats=floats)

    def _tokenizer(self, plan: Plan) -> Accuracy:
        return self.evaluator.tokenizer(self._graph("tokenizer", plan))

    def _all(self, plan: Plan) -> Accuracy:
        return self.evaluator.measure(self._graph("encoder", plan), self._tokenizer_graph(plan))

    def _tokenizer_graph(self, plan: Plan, half: HalfPrecision | None = None) -> ir.Model | None:
        if self.config.quantizer is None:
            return None
        return self._graph("tokenizer", plan, half)

    def _graph(self, name: str, plan: Plan, half: HalfPrecision | None = None) -> ir.Model:
        if half is not None:
            lowered = lower_parts(self.traced, self.target, plan, half)
        else:
            lowered = {part: self._lower(part, plan) for part in self.traced}
        return GraphAssembler(self.config, self.target, lowered).build(name)

    def _lower(self, part: str, plan: Plan) -> ir.Model:
        """Lower a part, unless it is one of the two last: most steps change one part."""
        # Within a search a layer's name stands for one quantized layer.
        names = frozenset(name for name in plan if name.startswith(f"{part}."))
        kept = self._lowered.setdefault(part, [])
        for earlier, lowered in kept:
            if earlier == names:
                return lowered
        kept.append((names, lower_part(part, self.traced, self.target, plan)))
        del kept[:-2]
        return kept[-1][1]


_UNKNOWN = Accuracy(1.0, 1.0, 0.0, 0)


def _short(value: float | None) -> float | str | None:
    return None if value is None else json_number(value, digits=5)


@dataclass(frozen=True)
class QuantizationOptions:
    """Options of a weight quantization.

    Attributes:
        calibration: folder of audio; None for the recordings in the package.
        frontend_precision: precision of the front end's convolutions in int8.
        budgets: budgets of accuracy and speed.
    """

    calibration: Path | None = None
    frontend_precision: Literal["fp32", "int8"] = "int8"
    budgets: Budgets = field(default_factory=Budgets)


def quantize(
    model: SpeechModel,
    target: Target,
    traced: Mapping[str, ir.Model],
    precision: str,
    options: QuantizationOptions,
    stages: Stages,
) -> QuantizationResult:
    """Quantize the weights of a model as far as the budgets allow; in bf16, measure alone.

    Raises:
        AccuracyError: no assignment is within the budgets; nothing was written.
        InputError: calibration audio that cannot be used.
        ProviderError: the precision cannot be computed here.
    """
    config, budgets = model.config, options.budgets
    calibrating, measuring = calibration_audio(
        options.calibration, config.sample_rate, config.geometry
    )
    execution = measuring_execution(precision)
    evaluator = AccuracyEvaluator(model, measuring, config.geometry.hop, execution)
    search = LayerSearch(config, target, traced, evaluator, stages)
    if precision == "fp16":
        stages.step("measuring the range of every value")
        return search.measure_half(budgets)
    if precision == BF16:
        stages.step("measuring in bfloat16")
        return search.measure_arithmetic(budgets)
    if precision == "int4":
        stages.step("rounding to 4 bits")
        four_bit = make_four_bit_candidates(parts(model), config, measuring)
        # 4 bits reduce the size: the speed is reported, without a budget.
        return search.measure(four_bit, replace(budgets, require_speedup=0.0))
    candidates = make_candidates(
        parts(model),
        config,
        calibrating,
        measuring,
        stages,
        between_integers=target.between_integers,
    )
    floats = frozenset(
        x.layer.name
        for x in candidates
        if options.frontend_precision == "fp32" and x.layer.name.startswith(FRONTEND)
    )
    return search.run(candidates, floats, budgets)
