"""Finds what can be int8 within the budgets: all of it, less the layers that break them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import onnx_ir as ir

from w2v_edge.errors import AccuracyError
from w2v_edge.model.config import ModelConfig
from w2v_edge_export.graphs import GraphAssembler
from w2v_edge_export.parts import lower_parts
from w2v_edge_export.progress import Progress
from w2v_edge_export.targets import Target
from w2v_edge_export.weight_quantization.accuracy import Accuracy, Judge
from w2v_edge_export.weight_quantization.half import HalfPrecision, exposed, overflowing
from w2v_edge_export.weight_quantization.layers import Candidate
from w2v_edge_export.weight_quantization.plan import Plan

FRONTEND = "frontend."

LARGEST_SHOWN = 20

DEFAULT_COSINES = {"fp16": 0.998, "int8": 0.998, "int4": 0.98}


@dataclass(frozen=True)
class Budgets:
    """What an export with quantized weights must hold.

    Attributes:
        min_cosine: of the context of a frame with PyTorch's, at the worst decile.
        max_code_drift: share of codes that differ from PyTorch's.
        require_speedup: of the encoder over the float32 graph, on this machine.
    """

    min_cosine: float = DEFAULT_COSINES["int8"]
    max_code_drift: float = 0.05
    require_speedup: float = 1.2


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        budgets: what was asked for.
        accuracy: of the final assignment.
        speedup: likewise; None where it was not reached or not measured.
        candidates: all layers, the most sensitive first.
        floats: the names of those that stayed in float.
        half: the pass that makes the rest fp16, if any.
        ranges: the largest magnitude of each value that became fp16.
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
        """The budgets that do not hold, one line each."""
        found, budgets = self.accuracy, self.budgets
        problems = overflowing(self.ranges)[:1]
        # Written so that what is no number breaks every budget.
        if not found.context_cosine >= budgets.min_cosine:
            problems.append(
                f"context cosine {found.context_cosine:.5f}, at least {budgets.min_cosine:g} wanted"
            )
        if not found.drift_bound <= budgets.max_code_drift:
            problems.append(
                f"code drift {found.code_drift:.4f} (up to {found.drift_bound:.4f} on other "
                f"audio), at most {budgets.max_code_drift:g} wanted"
            )
        if self.speedup is not None and not self.speedup >= budgets.require_speedup:
            problems.append(
                f"{self.speedup:.2f} times the float32 speed, {budgets.require_speedup:g} wanted"
            )
        return problems

    @property
    def plan(self) -> Plan:
        """The layers in int8."""
        return {x.layer.name: x.layer for x in self.candidates if x.layer.name not in self.floats}

    def to_dict(self) -> dict[str, Any]:
        """Return what a manifest holds of it."""
        accuracy = asdict(self.accuracy) | {"drift_bound": self.accuracy.drift_bound}
        return {
            "budgets": asdict(self.budgets),
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
    """No assignment holds the budgets; `outcome` has the figures and the ranking."""

    def __init__(self, outcome: Outcome) -> None:
        """Say which budgets do not hold."""
        super().__init__(
            f"the budgets cannot be held: {'; '.join(outcome.problems)}; no bundle was written; "
            "relax a budget, or export --precision fp32"
        )
        self.outcome = outcome


class Search:
    """Takes layers back to float, the most sensitive first, until the budgets hold."""

    def __init__(
        self,
        config: ModelConfig,
        target: Target,
        traced: Mapping[str, ir.Model],
        judge: Judge,
        progress: Progress = lambda *_: None,
    ) -> None:
        self.config = config
        self.target = target
        self.traced = traced
        self.judge = judge
        self.progress = progress

    def run(
        self, candidates: Sequence[Candidate], floats: frozenset[str], budgets: Budgets
    ) -> Outcome:
        """Search from an assignment with `floats` already in float.

        Raises:
            AccuracyBudgetError: even the last assignment does not hold the budgets.
        """
        if self.config.quantizer_input == "features":
            front = [x for x in candidates if x.layer.name.startswith(FRONTEND)]
            # The code drift is the front end's alone, and quick to measure.
            outcome = Outcome(budgets, _UNKNOWN, None, front, floats)
            floats = self._reduce(outcome, self._tokenizer).floats
        outcome = Outcome(budgets, _UNKNOWN, None, candidates, floats)
        return self._finish(self._reduce(outcome, self._all))

    def measure(self, candidates: Sequence[Candidate], budgets: Budgets) -> Outcome:
        """Measure one assignment, with every candidate quantized.

        Raises:
            AccuracyBudgetError: it does not hold the budgets.
        """
        outcome = Outcome(budgets, _UNKNOWN, None, candidates)
        return self._finish(replace(outcome, accuracy=self._all(outcome.plan)))

    def measure_half(self, budgets: Budgets) -> Outcome:
        """Measure everything in fp16, the largest magnitude of every value inside included.

        Raises:
            AccuracyBudgetError: it does not hold the budgets, or a value is too large for fp16.
        """
        half = HalfPrecision()
        graphs = self._graph("encoder", {}, half), self._tokenizer_graph({}, half)
        encoder = self._graph("encoder", {})
        ranges = half.weights | self.judge.magnitudes(encoder, exposed(encoder, half.values))
        # No speed is measured: the devices that it is for are elsewhere.
        accuracy = self.judge.measure(*graphs)
        outcome = Outcome(budgets, accuracy, None, (), half=half, ranges=ranges)
        if outcome.problems:
            raise AccuracyBudgetError(outcome)
        return outcome

    def _finish(self, outcome: Outcome) -> Outcome:
        """Time an assignment whose accuracy holds."""
        if outcome.problems:
            raise AccuracyBudgetError(outcome)
        if not outcome.plan:
            raise AccuracyError(
                "no layer is left in fewer bits: the budgets leave none, or none is large enough; "
                "no bundle was written; relax a budget, or export --precision fp32"
            )
        self.progress("timing it against float32", 0.95)
        encoders = [self._graph("encoder", plan) for plan in ({}, outcome.plan)]
        outcome = replace(outcome, speedup=self.judge.speedup(*encoders))
        if outcome.problems:
            raise AccuracyBudgetError(outcome)
        return outcome

    def _reduce(self, outcome: Outcome, measure: Callable[[Plan], Accuracy]) -> Outcome:
        """Take layers out of int8 until the measured accuracy holds or none is left."""
        step = 1
        while True:
            accuracy = measure(outcome.plan)
            outcome = replace(outcome, accuracy=accuracy)
            left = [x.layer.name for x in outcome.candidates if x.layer.name in outcome.plan]
            if not outcome.problems or not left:
                return outcome
            self.progress(f"back to float: {left[0]}", 0.9)
            floats = outcome.floats | set(left[: max(1, step // 2)])
            step += 1
            outcome = replace(outcome, floats=floats)

    def _tokenizer(self, plan: Plan) -> Accuracy:
        return self.judge.tokenizer(self._graph("tokenizer", plan))

    def _all(self, plan: Plan) -> Accuracy:
        return self.judge.measure(self._graph("encoder", plan), self._tokenizer_graph(plan))

    def _tokenizer_graph(self, plan: Plan, half: HalfPrecision | None = None) -> ir.Model | None:
        if self.config.quantizer is None:
            return None
        return self._graph("tokenizer", plan, half)

    def _graph(self, name: str, plan: Plan, half: HalfPrecision | None = None) -> ir.Model:
        lowered = lower_parts(self.traced, self.target, plan, half)
        return GraphAssembler(self.config, self.target, lowered).build(name)


_UNKNOWN = Accuracy(1.0, 1.0, 0.0, 0)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
