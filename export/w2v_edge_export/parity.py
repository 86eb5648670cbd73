"""The gate: PyTorch against the bundle, run by the runtime that ships.

Every graph, on recorded speech and on noise, from one receptive field to half a minute (the
encoder's parts to 8 s), alone and in a ragged batch whose padding is garbage. The reference is each
utterance alone, so a batch that changes a result cannot pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from w2v_edge import data
from w2v_edge.agreement import MAX_TIES, RELATIVE_TOLERANCE, CodeAgreement, Deviation
from w2v_edge.audio import Waveform
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.runtime.golden import (
    compare_encoder,
    compare_quantizer,
    compare_split,
    compare_tokenizer,
)
from w2v_edge.runtime.model import Model
from w2v_edge_export import reference
from w2v_edge_export.progress import Progress
from w2v_edge_export.reference import Arrays, Reference

SECONDS = (0.5, 1.0, 7.3, 30.0)
RAGGED = 6
MIN_CODES = 40_000
"""The tokenizer and the quantizer each give half."""

SPLIT_SECONDS = 8.0
"""The split graphs share every node with the whole ones; they are run up to this length."""


@dataclass(frozen=True)
class Report:
    """The outcome of the gate.

    Attributes:
        rows: every comparison.
        codes_compared, codes_tied, codes_wrong: pooled over the gate.
        distinct_codes: entries seen in each group.
        provider: execution provider of the bundle.
        exact: whether codes had to be equal, as in float32, or within a budget.
    """

    rows: tuple[Deviation, ...]
    codes_compared: int
    codes_tied: int
    codes_wrong: int
    distinct_codes: tuple[int, ...]
    provider: str
    exact: bool = True

    @property
    def failures(self) -> list[Deviation]:
        """The rows beyond their bar."""
        return [row for row in self.rows if not row.ok]

    @property
    def too_many_ties(self) -> bool:
        """Whether more codes differ at ties than chance explains."""
        return self.codes_tied > MAX_TIES * self.codes_compared

    @property
    def passed(self) -> bool:
        """Whether the bundle equals PyTorch."""
        return not self.failures and not self.too_many_ties

    @property
    def summary(self) -> str:
        """What went wrong, in one line."""
        causes = [f"; {remark}" for remark in self.remarks]
        if not self.failures:
            return "the bundle differs from PyTorch" + "".join(causes)
        first = self.failures[0]
        return (
            f"the bundle differs from PyTorch in {len(self.failures)} of {len(self.rows)} "
            f"comparisons; first: {first.output} of {first.case}" + "".join(causes)
        )

    @property
    def remarks(self) -> list[str]:
        """What a reader should know even though the gate passed, or beyond the rows."""
        remarks = []
        if self.distinct_codes and min(self.distinct_codes) <= 1:
            remarks.append(
                "only one code was ever chosen in a group: equal codes prove nothing there"
            )
        if self.exact and 0 < self.codes_compared < MIN_CODES:
            remarks.append(f"only {self.codes_compared} codes compared, {MIN_CODES} wanted")
        if self.too_many_ties:
            remarks.append(
                f"{self.codes_tied} of {self.codes_compared} codes differ at ties, "
                f"more than {MAX_TIES:.2%}"
            )
        return remarks

    def worst(self) -> list[Deviation]:
        """Return for each graph and output the row nearest to its bar."""
        worst: dict[tuple[str, str], Deviation] = {}
        for row in self.rows:
            key = (row.case.split()[0], row.output)
            if key not in worst or _strain(row) > _strain(worst[key]):
                worst[key] = row
        return list(worst.values())

    def to_dict(self) -> dict[str, Any]:
        """Return what a manifest holds of it."""
        return {
            "passed": self.passed,
            "provider": self.provider,
            "comparisons": len(self.rows),
            "codes_compared": self.codes_compared,
            "codes_tied": self.codes_tied,
            "codes_wrong": self.codes_wrong,
            "distinct_codes": list(self.distinct_codes),
            "remarks": self.remarks,
            "worst": [_plain(row) for row in self.worst()],
            "failures": [_plain(row) for row in self.failures],
        }


def run_gate(
    torch_model: SpeechModel, bundle: Model, progress: Progress = lambda *_: None
) -> Report:
    """Compare a bundle with its PyTorch model. Nothing is raised: the report says how it went."""
    gate = Gate(torch_model, bundle)
    rows: list[Deviation] = []
    cases = list(gate.cases())
    for i, case in enumerate(cases):
        progress(case.name, i / len(cases))
        rows += gate.run(case)
    rows += gate.top_up(progress)
    tally = gate.tally
    return Report(
        rows=tuple(rows),
        codes_compared=tally.compared,
        codes_tied=tally.ties,
        codes_wrong=tally.wrong,
        distinct_codes=tuple(len(seen) for seen in tally.distinct),
        provider=bundle.provider,
    )


@dataclass(frozen=True)
class Case:
    """Utterances to run, alone or padded to `samples` as a batch."""

    name: str
    utterances: tuple[Waveform, ...]
    samples: int


class Gate:
    """Cases, references and bars of one model."""

    def __init__(self, torch_model: SpeechModel, bundle: Model) -> None:
        self.torch_model = torch_model
        self.bundle = bundle
        self.tally = CodeAgreement()
        self.rate = bundle.sample_rate
        longest = round(max(SECONDS) * self.rate)
        speech = np.concatenate(list(data.clips(self.rate).values()))
        self.speech = np.resize(speech, max(longest + self.rate, len(speech)))
        rng = np.random.default_rng(0)
        self.noise = (0.1 * rng.standard_normal(longest)).astype(np.float32)
        self.garbage = rng.standard_normal(longest).astype(np.float32) * 1e4
        self.garbage[::7] = np.nan
        self.std = self._measure_spread()

    def cases(self) -> Iterator[Case]:
        """Yield all cases, short ones first, so that a broken graph fails early."""
        geometry = self.bundle.manifest.geometry
        field = geometry.receptive_field
        odd = 17 * geometry.hop + 123 | 1
        # A ragged batch of six needs the attention of one that is sqrt(6) times as long.
        longest = self.bundle.manifest.longest_context_seconds / math.sqrt(RAGGED)
        lengths = {
            **{samples: f"{samples} samples" for samples in (field, field + 1, odd)},
            **{round(s * self.rate): f"{s:g} s" for s in (min(s, longest) for s in SECONDS)},
        }
        for samples, label in sorted(lengths.items()):
            yield Case(f"{label}, speech", (self.speech[:samples],), samples)
            yield Case(f"{label}, noise", (self.noise[:samples],), samples)
            yield Case(f"{label} x 6, ragged", self._ragged(samples), samples)

    def run(self, case: Case) -> list[Deviation]:
        """Compare all graphs on one case."""
        batch, expected = self.lay_out(case, [self._reference(x) for x in case.utterances])
        rows = compare_encoder(self.bundle, batch, expected, case.name, self.tally)
        if "tokenizer" in self.bundle.manifest.graphs:
            rows += compare_tokenizer(self.bundle, batch, expected, case.name, self.tally)
        if case.samples <= SPLIT_SECONDS * self.rate:
            rows += compare_split(self.bundle, batch, expected, case.name)
        return rows

    def top_up(self, progress: Progress) -> list[Deviation]:
        """Compare codes of further speech until there are enough to speak of shares."""
        rows: list[Deviation] = []
        if "tokenizer" not in self.bundle.manifest.graphs:
            return rows
        step = round(10 * self.rate)
        for i in range(100):
            if self.tally.compared >= MIN_CODES:
                break
            name = f"more speech {i + 1}"
            progress(name, self.tally.compared / MIN_CODES)
            # Other offsets and levels, so that it is not the same frames again.
            start = (i * 7919) % max(1, len(self.speech) - step)
            samples = self.speech[start : start + step] * np.float32(0.5 + i % 5 / 4)
            case = Case(name, (samples,), len(samples))
            references = [reference.encode(self.torch_model, samples, context=False)]
            batch, expected = self.lay_out(case, references)
            rows += compare_tokenizer(self.bundle, batch, expected, name, self.tally)
            found = expected[self.torch_model.config.quantizer_input or "features"]
            rows += compare_quantizer(self.bundle, found, expected, name, self.tally)
        return rows

    def _ragged(self, samples: int) -> tuple[Waveform, ...]:
        """Return six utterances of up to `samples`: speech and noise, one too short for a frame."""
        shortest = self.bundle.manifest.geometry.min_samples
        shares = (1.0, 0.83, 0.61, 0.34, 0.12)
        lengths = [min(samples, max(shortest, round(samples * share))) for share in shares]
        sources = (self.speech, self.noise, self.speech[self.rate :])
        ragged = [sources[i % 3][:length] for i, length in enumerate(lengths)]
        return (*ragged, self.speech[: shortest - 1])

    def lay_out(self, case: Case, references: list[Reference]) -> tuple[Arrays, Arrays]:
        """Return the padded inputs of a case, and what is expected of them."""
        waveform = np.tile(self.garbage[: case.samples], (len(case.utterances), 1))
        for row, utterance in zip(waveform, case.utterances, strict=True):
            row[: len(utterance)] = utterance
        lengths = np.array([len(x) for x in case.utterances], dtype=np.int64)
        frames = self.bundle.manifest.geometry.frames(case.samples)
        context_frames = self.torch_model.config.context_frames(frames)
        expected = reference.padded_batch(references, frames, context_frames)
        return {"waveform": waveform, "lengths": lengths}, expected | self.std

    def _reference(self, waveform: Waveform) -> Reference:
        return reference.encode(self.torch_model, waveform)

    def _measure_spread(self) -> Arrays:
        """Measure on speech how much features and context vary across frames."""
        return reference.spreads(self._reference(self.speech[: round(7.3 * self.rate)]))


def _strain(row: Deviation) -> float:
    if not row.ok:
        return np.inf
    return row.worst / row.allowed if row.allowed else row.worst


def _plain(row: Deviation) -> dict[str, Any]:
    plain = asdict(row)
    plain["worst"] = float(f"{row.worst:.3e}") if np.isfinite(row.worst) else str(row.worst)
    plain["allowed"] = float(f"{row.allowed:.3e}")
    return plain


CLOSE = {"cosine": 0.999, "code_drift": 0.02}
"""How near two machines that run one bundle with quantized weights must come."""

BARS: dict[str, dict[str, float]] = {
    "fp32": {"features": RELATIVE_TOLERANCE, "context": RELATIVE_TOLERANCE, "code_ties": MAX_TIES},
    "fp16": CLOSE,
    "int8": CLOSE,
    "int4": CLOSE,
}
"""Tolerances by precision, as golden vectors carry them."""
