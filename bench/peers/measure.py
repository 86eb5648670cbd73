"""The stages of the comparison, and the report that they fill."""

from __future__ import annotations

import argparse
import json
import os
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
from bench.peers.report import markdown
from bench.peers.sides import Group, Run, Side, disk_bytes, open_side
from bench.peers.speech import speech, speech_with_pauses
from bench.peers.timing import compare, one_line, summary

TOKENIZER_LENGTHS = (1, 10, 30)
ROUNDS = {30: 7, 60: 5}
WARM_UP = {30: 3, 60: 3}
COLD_REPEATS = 5
MEMORY_SECONDS = 30
FRONTEND_SECONDS = (60, 300)
FRONTEND_BYTES_A_SECOND = 40e6
"""Memory that the usual front end of `base` may take; audio that needs more is left out."""

PROFILE_SECONDS = (10, 60)

EAGER = ("torch", "transformers", "tokenizer-torch")
"""The sides of which the faster one in a group is `PyTorch eager`."""

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
        self.report: dict[str, Any] = {
            "preset": options.preset,
            "threads": options.threads,
            "machine": hardware.describe(),
        }

    def say(self, what: str) -> None:
        """Tell what is being done."""
        print(f"[{time.monotonic() - self.start:6.0f} s] {what}", file=sys.stderr, flush=True)

    def run(self) -> None:
        """Run all stages and write the results; an interrupted run leaves what it had."""
        load = self.report["machine"]["load_before"][0]
        if load > BUSY:
            self.say(f"load average {load}: other programs run, and PyTorch suffers most from it")
        every = candidates(self.shop)
        self.sides, reasons = prepare(every, self.options.skip)
        self.report["not_run"] = reasons
        self.report["sides"] = {
            x.name: {
                "title": x.title,
                "group": x.group,
                "disk_mb": round(disk_bytes(x) / 1e6, 2),
            }
            for x in self.sides
        }
        self.report["usual_export"] = self.shop.exporter()
        runs = self._open()
        if not self.options.latency_only:
            self._fresh()
            self._accuracy(runs)
        self._latency(runs)
        self._write()

    def _open(self) -> dict[str, Run]:
        """Open all sides in this process, to a first short result; what fails is left out."""
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
        self.report["latency"] = []
        groups: tuple[Group, ...] = get_args(Group)
        for seconds in self.options.only:
            for group in groups:
                if group == "tokenizer" and seconds not in TOKENIZER_LENGTHS:
                    continue
                self.say(f"timing {group}, {seconds} s")
                chosen = {x.name: runs[x.name] for x in self._of(group)}
                self.report["latency"] += self._rows(group, seconds, chosen)
                self.say(f"resident: {hardware.resident('VmRSS'):.0f} MB")
                self._keep()

    def _rows(self, group: Group, seconds: int, runs: dict[str, Run]) -> list[dict[str, Any]]:
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
        rows = []
        for name, times in taken.items():
            row: dict[str, Any] = {"side": name, "group": group, "seconds": seconds}
            if times.failure:
                rows.append(row | {"failure": times.failure})
                self.say(f"{name}: {times.failure}")
                continue
            first = round(1e3 * times.first, 1)
            rows.append(row | {"first_ms": first} | summary(times.raw, seconds))
        eager = [x["median_ms"] for x in rows if x["side"] in EAGER and "median_ms" in x]
        for row in rows:
            if eager and "median_ms" in row:
                row["times_eager"] = round(min(eager) / row["median_ms"], 3)
        return rows

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
                    self.report["sides"][one.name]["accuracy"] = found

    def _fresh(self) -> None:
        self._cold()
        self._memory()
        self._frontend()
        self._beyond_attention()
        self._keep()

    def _cold(self) -> None:
        """Time loading and first results; the sides take turns."""
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
            self.report["sides"][name][key] = {
                part: statistics.median(x[part] for x in found) for part in found[0]
            } | {"raw": found}

    def _memory(self) -> None:
        for side in self._of("encoder"):
            if side.kind != "compiled":
                self.say(f"memory of {side.name}")
                answer = self._ask("memory", side, MEMORY_SECONDS)
                self.report["sides"][side.name]["memory"] = answer

    def _frontend(self) -> None:
        """Measure memory of the front end and quantizer on long audio."""
        rows = self.report["frontend_memory"] = []
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
        """Profile the bundles: what a second of audio costs apart from attention."""
        rows = self.report["beyond_attention"] = []
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
        """Do something with a side; where it fails, note why."""
        try:
            return do()
        except Exception as error:  # noqa: BLE001 - any runtime's own; it is reported
            reason = one_line(error)
            self.report["not_run"][f"{side.name}: {what}"] = reason
            self.say(f"{side.name}: {what}: {reason}")
            return None

    def _of(self, group: Group) -> list[Side]:
        return [x for x in self.sides if x.group == group]

    def _keep(self) -> None:
        """Keep what there is so far in the work folder."""
        text = json.dumps(self.report, indent=1)
        (self.shop.folder / "so-far.json").write_text(text)

    def _write(self) -> None:
        from bench.peers.plots import draw_accuracy, draw_latency

        folder: Path = self.options.output
        folder.mkdir(parents=True, exist_ok=True)
        name = f"peers-{self.options.preset}"
        self.report["machine"]["load_after"] = [round(x, 2) for x in os.getloadavg()]
        (folder / f"{name}.json").write_text(json.dumps(self.report, indent=1) + "\n")
        (folder / f"{name}.md").write_text(markdown(self.report))
        suffix = "" if self.options.preset == "base" else f"-{self.options.preset}"
        draw_latency(self.report, folder / f"peers-latency{suffix}.svg")
        draw_accuracy(self.report, folder / f"peers-accuracy{suffix}.svg")
        print(markdown(self.report))
        self.say(f"written to {folder}")
