"""Accuracy of quantized graphs against PyTorch on real audio, and their speed over float32."""

from __future__ import annotations

import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from w2v_edge.agreement import CodeAgreement, frame_cosines
from w2v_edge.audio import Waveform
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.head_config import LOGITS, CtcHeadConfig
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.providers import Execution, open_session
from w2v_edge_export import reference
from w2v_edge_export.bundle_writer import DataWriter
from w2v_edge_export.reference import Reference
from w2v_edge_export.weight_quantization.label_times import PERCENTILE, label_shifts

SPEED_FRAMES = 500
"""10 s at the usual 20 ms."""

SPEED_ROUNDS = 7
WARM_UP = 2

CONFIDENCE = 1.64
"""Standard errors added to a measured share to bound it on other audio."""


@dataclass(frozen=True)
class Accuracy:
    """Deviation from the PyTorch model, each utterance alone.

    Attributes:
        features_cosine: cosine of a feature frame with the reference's, at the worst decile.
        context_cosine: cosine of a context frame, at the worst decile.
        code_drift: share of differing codes; 0 without a quantizer.
        codes: number of compared codes.
        label_drift: share of frames or utterances with another best label; None without a head.
        label_shift: milliseconds by which labels move in time, at the 99th percentile; None without
            a CTC head.
    """

    features_cosine: float
    context_cosine: float
    code_drift: float
    codes: int
    label_drift: float | None = None
    label_shift: float | None = None

    @property
    def drift_bound(self) -> float:
        """Upper bound of the code drift on other audio.

        `CONFIDENCE` standard errors above the measured share, codes taken as independent.
        """
        error = math.sqrt(self.code_drift * (1 - self.code_drift) / max(1, self.codes))
        return self.code_drift + CONFIDENCE * error


class AccuracyEvaluator:
    """Measures graphs against the PyTorch model on given audio.

    Attributes:
        waveforms: audio, (samples,) each.
        references: PyTorch results of each waveform.
        speed_waveform: audio that speed is measured on.
        execution: how the graphs are run.
    """

    def __init__(
        self, model: SpeechModel, waveforms: Sequence[Waveform], hop: int, execution: Execution
    ) -> None:
        self.config = model.config
        self.execution = execution
        self.waveforms = waveforms
        self.references = [reference.encode(model, x) for x in waveforms]
        audio = np.concatenate(waveforms)
        self.speed_waveform: Waveform = np.resize(audio, SPEED_FRAMES * hop)

    def tokenizer(self, graph: ir.Model) -> Accuracy:
        """Measure codes alone."""
        session = _OpenedGraph(graph, self.execution)
        totals = AccuracyTotals(self.config)
        for waveform, expected in zip(self.waveforms, self.references, strict=True):
            totals.add_codes(session(waveform)["codes"], expected)
        return totals.accuracy()

    def measure(self, encoder: ir.Model, tokenizer: ir.Model | None) -> Accuracy:
        """Measure features, context, labels, and codes where the model has a tokenizer."""
        encode = _OpenedGraph(encoder, self.execution)
        tokenize = None if tokenizer is None else _OpenedGraph(tokenizer, self.execution)
        totals = AccuracyTotals(self.config)
        for waveform, expected in zip(self.waveforms, self.references, strict=True):
            totals.add_values(encode(waveform), expected)
            if tokenize is not None:
                totals.add_codes(tokenize(waveform)["codes"], expected)
        return totals.accuracy()

    def magnitudes(self, encoder: ir.Model, names: Sequence[str]) -> dict[str, float]:
        """Return the largest magnitude of each of some outputs of an encoder, at full volume."""
        session = _OpenedGraph(encoder, self.execution)
        largest = dict.fromkeys(names, 0.0)
        for waveform in self.waveforms:
            found = session(waveform / max(float(np.abs(waveform).max()), 1e-6))
            for name in names:
                seen = np.nan_to_num(np.abs(found[name]), nan=np.inf)
                largest[name] = max(largest[name], float(seen.max(initial=0.0)))
        return largest

    def speedup(self, slow: ir.Model, fast: ir.Model) -> float:
        """Return how many times faster one encoder is: medians of rounds in shuffled order.

        The slow one is computed in float32.
        """
        exactly = replace(self.execution, arithmetic="f32")
        sides = {"slow": _OpenedGraph(slow, exactly), "fast": _OpenedGraph(fast, self.execution)}
        times: dict[str, list[float]] = {name: [] for name in sides}
        order = list(sides)
        rng = random.Random(0)  # noqa: S311 - an order of runs, no secret
        for turn in range(WARM_UP + SPEED_ROUNDS):
            rng.shuffle(order)
            for name in order:
                begin = time.perf_counter()
                sides[name](self.speed_waveform)
                if turn >= WARM_UP:
                    times[name].append(time.perf_counter() - begin)
        return statistics.median(times["slow"]) / statistics.median(times["fast"])


class AccuracyTotals:
    """Totals over utterances, each run alone and compared with its reference.

    Attributes:
        cosines: cosine of each frame, by output.
        pooled: bundle's and reference's values of each pooled output, (d,) for each utterance.
        differing: differing codes.
        codes: compared codes.
        relabelled: differing best labels.
        labels: compared best labels.
        shifts: milliseconds by which each label of a CTC model moves.
        distinct: entries that the reference chose, for each group.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Begin with nothing, for a model of this configuration."""
        self._config = config
        self.shifts: list[npt.NDArray[np.floating[Any]]] = []
        self.cosines: dict[str, list[npt.NDArray[np.float64]]] = {"features": [], "context": []}
        self.pooled: dict[str, list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]] = {}
        self.differing = self.codes = 0
        self.relabelled = self.labels = 0
        self.distinct: list[set[int]] = []

    def add_values(self, found: Mapping[str, npt.NDArray[Any]], expected: Reference) -> None:
        """Add all float outputs, (1, n, d) or (1, d) each."""
        for name in found.keys() & expected.lengths.keys() - {"codes", "vectors"}:
            pair = found[name][0], expected.arrays[name]
            if expected.lengths[name] is None:
                self.pooled.setdefault(name, []).append(pair)
            else:
                self.cosines.setdefault(name, []).append(frame_cosines(*pair))
        for name in (x for x in found if x.startswith(LOGITS)):
            best = [x.argmax(axis=-1) for x in (found[name][0], expected.arrays[name])]
            self.relabelled += int(np.sum(best[0] != best[1]))
            self.labels += int(np.size(best[0]))
        self._add_shifts(found, expected)

    def _add_shifts(self, found: Mapping[str, npt.NDArray[Any]], expected: Reference) -> None:
        head = self._config.head
        if not isinstance(head, CtcHeadConfig) or not len(expected.arrays[LOGITS]):
            return
        logits = expected.arrays[LOGITS]
        # An adapter leaves fewer frames of logits than of features.
        frames = round(expected.frames / len(logits))
        seconds = frames * self._config.geometry.hop / self._config.sample_rate
        self.shifts.append(1000 * seconds * label_shifts(found[LOGITS][0], logits, head.blank))

    def add_codes(self, found: npt.NDArray[Any], expected: Reference) -> None:
        """Add codes (1, n, g)."""
        codes = expected.arrays["codes"]
        self.differing += int((found[0] != codes).sum())
        self.codes += codes.size
        self.distinct = self.distinct or [set() for _ in range(codes.shape[1])]
        for group, seen in enumerate(self.distinct):
            seen.update(codes[:, group].tolist())

    def worst_cosines(self) -> dict[str, float]:
        """Return the cosine of each output at the worst decile of frames.

        Pooled outputs have one for all utterances together: a few values have no stable direction.
        """
        worst = {name: worst_decile(cosines) for name, cosines in self.cosines.items()}
        for name, pairs in self.pooled.items():
            sides = (np.concatenate(side)[np.newaxis] for side in zip(*pairs, strict=True))
            worst[name] = float(frame_cosines(*sides)[0])
        return worst

    @property
    def code_agreement(self) -> CodeAgreement:
        """The counts of codes, all differing ones being wrong."""
        return CodeAgreement(self.codes, 0, self.differing, self.distinct)

    def accuracy(self) -> Accuracy:
        """Return the accuracy over everything added."""
        worst = self.worst_cosines()
        drift = self.differing / max(1, self.codes)
        labels = self.relabelled / self.labels if self.labels else None
        shifts = np.concatenate(self.shifts) if self.shifts else np.zeros(0)
        shift = float(np.percentile(shifts, PERCENTILE)) if len(shifts) else None
        return Accuracy(worst["features"], worst["context"], drift, self.codes, labels, shift)


def worst_decile(cosines: Iterable[npt.NDArray[np.float64]]) -> float:
    """Return the cosine at the worst decile of all frames; 1 without frames."""
    pooled = [x for x in cosines if len(x)]
    return float(np.quantile(np.concatenate(pooled), 0.1)) if pooled else 1.0


class _OpenedGraph:
    """A graph opened as the runtime opens it, with the same threads."""

    def __init__(self, graph: ir.Model, execution: Execution) -> None:
        with tempfile.TemporaryDirectory() as folder:
            DataWriter(Path(folder)).externalise(graph)
            ir.save(graph, Path(folder) / "graph.onnx")
            self.session = open_session(Path(folder) / "graph.onnx", execution)
        self.names = [x.name for x in self.session.get_outputs()]

    def __call__(self, waveform: Waveform) -> dict[str, npt.NDArray[Any]]:
        given = {"waveform": waveform[np.newaxis], "lengths": np.array([len(waveform)])}
        return dict(zip(self.names, self.session.run(self.names, given), strict=True))
