"""Settings tuned to a device; results do not depend on them beyond rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from w2v_edge.errors import ConfigError
from w2v_edge.providers.choice import Execution, Spinning
from w2v_edge.providers.machine import usable_cores
from w2v_edge.providers.table import TABLE

MAX_BATCH_SECONDS = 600.0


@dataclass(frozen=True)
class Tuning:
    """Runtime settings of a device.

    Attributes:
        threads: intra-op threads; None for the default.
        spinning: when idle threads spin instead of sleeping: `always`, until the end of a run
            (`in_runs`), or `never`.
        block_base: 0 to split an operator's work evenly among threads; else onnxruntime's
            `session.dynamic_block_base`, with blocks that shrink towards the end.
        kleidiai: whether onnxruntime may use Arm's KleidiAI kernels; without effect elsewhere.
        provider_options: tunable options of the provider (`table.py`), by onnxruntime's names.
        batch_seconds: seconds of audio in a batch for lists; 0 for one utterance at a time; None
            for the provider's default.
    """

    threads: int | None = None
    spinning: Spinning = "always"
    block_base: Literal[0, 4] = 0
    kleidiai: bool = True
    provider_options: dict[str, str] = field(default_factory=dict)
    batch_seconds: float | None = None

    def check(self, provider: str) -> None:
        """Check that `w2v-edge tune` could have chosen these settings here.

        Raises:
            ConfigError: a setting is out of range or not tunable.
        """
        cores = usable_cores()
        if self.threads is not None and not 1 <= self.threads <= cores:
            raise ConfigError(
                f"found {self.threads!r:.20} threads, expected 1 to {cores}, the cores"
            )
        for key, value in self.provider_options.items():
            if value not in TABLE[provider].tunable.get(key, ()):
                raise ConfigError(f"found option {key:.40}={value!r:.40}, which is not tunable")
        seconds = self.batch_seconds
        if seconds is not None and not (
            math.isfinite(seconds) and 0 <= seconds <= MAX_BATCH_SECONDS
        ):
            raise ConfigError(
                f"found batch_seconds {seconds:g}, expected 0 to {MAX_BATCH_SECONDS:g}"
            )

    def applied(self, execution: Execution, threads: int | None = None) -> Execution:
        """Return `execution` with these settings; the caller's threads and options win."""
        (name, own), *others = execution.providers
        return replace(
            execution,
            providers=((name, self.provider_options | own), *others),
            threads=threads or self.threads or execution.threads,
            spinning=self.spinning,
            block_base=self.block_base,
            kleidiai=self.kleidiai,
        )
