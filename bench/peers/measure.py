"""The stages of the comparison."""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np

from bench.peers import accuracy, hardware
from bench.peers.catalogue import candidates, prepare
from bench.peers.files import Workshop
from bench.peers.fresh import SHORT_SECONDS, ask
from bench.peers.limit import measure_limit
from bench.peers.results import SETTINGS, Results, case_result, side_record
from bench.peers.sides import Group, Run, Side, disk_bytes, open_side
from bench.peers.speech import RATE, speech, speech_with_pauses
from bench.peers.timing import compare, one_line
from w2v_edge.errors import W2VEdgeError
from w2v_edge.latency.device.fingerprint import describe_device
from w2v_edge.latency.measure.inputs import Speech
from w2v_edge.latency.report.machine_records import Conditions
from w2v_edge.latency.report.records import (
    FORMAT,
    VERSION,
    BenchmarkReport,
    BundleRecord,
    CaseResult,
)

TOKENIZER_LENGTHS = (1, 10, 30)
ROUNDS = {30: 7, 60: 5}
WARM_UP = {30: 3, 60: 3}
COLD_REPEATS = 5
MEMORY_SECONDS = 30
FRONTEND_SECONDS = (60, 300)
FRONTEND_BYTES_A_SECOND = 40e6
"""Memory that the usual front end of `base` may take; audio that needs more is left out."""

PROFILE_SECONDS = (10, 60)

BUSY = 0.5
"""Load average before the start that is worth a warning."""

T = TypeVar("T")


class Comparison:
    """One run of the benchmark."""

    def __init__(self, options: argparse.Namespace) -> None:
        known = [x.name for x in candidates(Workshop(options.workdir, options.preset, 1, print))]
        unknown = set(options.skip) - set(known)
        if unknown:
            sys.exit(f"--skip: unknown {', '.join(unknown)}; choose from: {', '.join(known)}")
        self.options = options
        self.shop = Workshop(options.workdir, options.preset, options.threads, self.say)
        self.start = time.monotonic()
        self.created = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        self.more: dict[str, Any] = {"load_before": hardware.load()}
        self.bundles: list[BundleRecord] = []
        self.cases: list[CaseResult] = []

    def say(self, what: str) -> None:
        """Print progress."""
        print(f"[{time.monotonic() - self.start:6.0f} s] {what}", file=sys.stderr, flush=True)

    def run(self) -> None:
        """Run all stages and write the results; an interrupted run keeps partial results."""
        load = self.more["load_before"][0]
        if load > BUSY:
            self.say(f"load average {load}: other programs run, and PyTorch suffers most from it")
        every = candidates(self.shop)
        self.sides, reasons = prepare(every, self.options.skip)
        self.more["not_run"] = reasons
        self.more["sides"] = {x.name: {"title": x.title, "group": x.group} for x in self.sides}
        preset = self.options.preset
        self.bundles = [side_record(x, preset, disk_bytes(x) / 1e6) for x in self.sides]
        self.more["usual_export"] = self.shop.exporter()
        runs = self._open()
        if not self.options.latency_only:
            self._fresh()
            self._accuracy(runs)
        self._latency(runs)
        self._limit()
        self._write()

    def _open(self) -> dict[str, Run]:
        """Open all sides in this process and run each once; sides that fail are excluded."""
        runs = {}
        for side in list(self.sides):
            self.say(f"opening {side.name}")

            def opened(side: Side = side) -> Run:
                run = open_side(side, self.options.threads)
                run(speech(SHORT_SECONDS))
                return run

            run = self._try(side, "open", opened)
            if run is None:
                self.sides.remove(side)
            else:
                runs[side.name] = run
        return runs

    def _latency(self, runs: dict[str, Run]) -> None:
        groups: tuple[Group, ...] = get_args(Group)
        for seconds in self.options.only:
            for group in groups:
                if group == "tokenizer" and seconds not in TOKENIZER_LENGTHS:
                    continue
                self.say(f"timing {group}, {seconds} s")
                chosen = {x.name: runs[x.name] for x in self._of(group)}
                self.cases += self._timed(group, seconds, chosen)
                self.say(f"resident: {hardware.resident('VmRSS'):.0f} MB")
                self._keep()

    def _timed(self, group: Group, seconds: int, runs: dict[str, Run]) -> list[CaseResult]:
        """Time one group at one length."""
        options = self.options
        taken = compare(
            runs,
            speech(seconds),
            warm_up=WARM_UP.get(seconds, 8) if options.warm_up is None else options.warm_up,
            rounds=options.rounds or ROUNDS.get(seconds, 15),
            pause=options.pause,
            seed=seconds,
        )
        found = []
        for side in self._of(group):
            times, fresh = taken[side.name], self.more["sides"][side.name]
            if times.failure:
                self.say(f"{side.name}: {times.failure}")
            found.append(case_result(side, seconds, options.threads, times, fresh))
        return found

    def _accuracy(self, runs: dict[str, Run]) -> None:
        waveform = speech_with_pauses(accuracy.SECONDS)
        references: tuple[tuple[Group, str], ...] = (
            ("encoder", "torch"),
            ("tokenizer", "tokenizer-torch"),
        )
        for group, name in references:
            side = Side(name, "", group, "torch", str(self.shop.checkpoint()))
            expected = open_side(side, self.options.threads)(waveform)
            for one in self._of(group):
                if one.name != name:
                    self.say(f"accuracy of {one.name}")
                    compare_one = partial(
                        accuracy.deviation, group, runs[one.name], waveform, expected
                    )
                    found = self._try(one, "accuracy", compare_one)
                    self.more["sides"][one.name]["accuracy"] = found

    def _fresh(self) -> None:
        self._cold()
        self._memory()
        self._frontend()
        self._beyond_attention()
        self._keep()

    def _cold(self) -> None:
        """Time loading and first results, alternating between sides."""
        answers: dict[tuple[str, str], list[dict[str, float]]] = {}
        sides = [x for x in self.sides if x.kind != "compiled"]
        for turn in range(COLD_REPEATS):
            self.say(f"first results in fresh processes, {turn + 1} of {COLD_REPEATS}")
            for side in sides:
                for key, seconds in (("load", SHORT_SECONDS), ("cold", 1)):
                    answer = self._ask("cold", side, seconds)
                    if answer is not None:
                        answers.setdefault((side.name, key), []).append(answer)
        for (name, key), found in answers.items():
            self.more["sides"][name][key] = {
                part: statistics.median(x[part] for x in found) for part in found[0]
            } | {"raw": found}

    def _memory(self) -> None:
        for side in self._of("encoder"):
            if side.kind != "compiled":
                self.say(f"memory of {side.name}")
                answer = self._ask("memory", side, MEMORY_SECONDS)
                self.more["sides"][side.name]["memory"] = answer

    def _frontend(self) -> None:
        """Measure memory of the front end and quantizer on long audio."""
        rows = self.more["frontend_memory"] = []
        for side in self._of("tokenizer"):
            for seconds in FRONTEND_SECONDS:
                self.say(f"memory of {side.name}, {seconds} s")
                row = {"side": side.name, "seconds": seconds}
                needed = seconds * FRONTEND_BYTES_A_SECOND
                if side.kind != "bundle" and needed > hardware.free_memory():
                    rows.append(row | {"failure": "not enough free memory"})
                    continue
                answer = self._ask("memory", side, seconds)
                rows.append(row | (answer or {"failure": "see not_run"}))

    def _beyond_attention(self) -> None:
        """Profile the bundles: cost of a second of audio without attention."""
        rows = self.more["beyond_attention"] = []
        for side in self.sides:
            for seconds in PROFILE_SECONDS if side.kind == "bundle" else ():
                self.say(f"profile of {side.name}, {seconds} s")
                answer = self._ask("attention", side, seconds)
                if answer is not None:
                    rest = (answer["run_ms"] - answer["attention_ms"]) / seconds
                    row = {"side": side.name, "seconds": seconds, **answer}
                    rows.append(row | {"rest_ms_a_second": round(rest, 3)})

    def _ask(self, what: str, side: Side, seconds: float) -> dict[str, Any] | None:
        path = self.shop.folder / f"speech-{seconds}.npy"
        if not path.exists():
            np.save(path, speech(seconds))
        return self._try(side, what, lambda: ask(what, side, path, self.options.threads))

    def _try(self, side: Side, what: str, do: Callable[[], T]) -> T | None:
        """Run a function on a side; record the error if it fails."""
        try:
            return do()
        except Exception as error:  # noqa: BLE001 - any runtime's own; it is reported
            reason = one_line(error)
            self.more["not_run"][f"{side.name}: {what}"] = reason
            self.say(f"{side.name}: {what}: {reason}")
            return None

    def _limit(self) -> None:
        """Measure the limit of this machine, which no other process may disturb."""
        paths = {str(x.precision): Path(x.path) for x in self._of("encoder") if x.kind == "bundle"}
        self.say("limit")
        try:
            self.more["limit"] = measure_limit(paths, self.options.only, self.options.threads)
        except W2VEdgeError as error:
            self.more["not_run"]["limit"] = one_line(error)

    def _of(self, group: Group) -> list[Side]:
        return [x for x in self.sides if x.group == group]

    def _keep(self) -> None:
        """Write partial results to the work folder."""
        self._results().write(self.shop.folder / "so-far")

    def _results(self) -> Results:
        report = BenchmarkReport(
            FORMAT,
            VERSION,
            self.created,
            shlex.join(["python", "-m", "bench.peers", *sys.argv[1:]]),
            dataclasses.replace(describe_device(), packages=hardware.versions()),
            tuple(self.bundles),
            Speech.read([], RATE).record,
            SETTINGS,
            Conditions((), ()),
            tuple(self.cases),
        )
        return Results(report, self.more | {"load_after": hardware.load()})

    def _write(self) -> None:
        stem: Path = self.options.output / f"peers-{self.options.preset}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        self._results().write(stem)
        self.say(f"written to {stem}.json")
