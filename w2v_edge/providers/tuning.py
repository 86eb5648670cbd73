"""What may be set to suit a device: no result depends on it beyond rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from w2v_edge.errors import ConfigError
from w2v_edge.providers.choice import Execution, Spinning
from w2v_edge.providers.machine import usable_cores
from w2v_edge.providers.table import TABLE

MOST_BATCH_SECONDS = 600.0


@dataclass(frozen=True)
class Tuning:
    """How to run on a device; what is left out is the default.

    Attributes:
        threads: for one operator.
        spinning: when threads that have nothing to do spin rather than sleep: `always`, until the
            end of a run (`in_runs`), or `never`.
        block_base: 0 to part the work of an operator evenly among threads; else it is parted into
            blocks that shrink towards the end, in so many steps, so that no thread is waited for.
        provider_options: by onnxruntime's names; those that `table.py` calls tunable.
        batch_seconds: of audio that is run at once where a list is given; 0 for one utterance at a
            time.
    """

    threads: int | None = None
    spinning: Spinning = "always"
    block_base: Literal[0, 4] = 0
    provider_options: dict[str, str] = field(default_factory=dict)
    batch_seconds: float | None = None

    def check(self, provider: str) -> None:
        """Refuse what `w2v-edge tune` could not have chosen here.

        Raises:
            ConfigError: it says which and why.
        """
        cores = usable_cores()
        if self.threads is not None and not 1 <= self.threads <= cores:
            raise ConfigError(
                f"found {self.threads!r:.20} threads, expected 1 to {cores}, the cores"
            )
        for key, value in self.provider_options.items():
            if value not in TABLE[provider].tunable.get(key, ()):
                raise ConfigError(f"found option {key:.40}={value!r:.40}, which is not one to tune")
        seconds = self.batch_seconds
        if seconds is not None and not (
            math.isfinite(seconds) and 0 <= seconds <= MOST_BATCH_SECONDS
        ):
            raise ConfigError(f"found batch_seconds {seconds:g}, expected up to 600")

    def applied(self, execution: Execution, threads: int | None = None) -> Execution:
        """Return how to run, tuned; `threads` and options that a caller gave stay as they are."""
        (name, own), *others = execution.providers
        return replace(
            execution,
            providers=((name, self.provider_options | own), *others),
            threads=threads or self.threads or execution.threads,
            spinning=self.spinning,
            block_base=self.block_base,
        )
