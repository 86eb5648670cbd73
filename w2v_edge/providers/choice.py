"""What a caller asks for, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from w2v_edge.errors import ProviderError
from w2v_edge.names import Power, Provider
from w2v_edge.providers.installation import check_installed, import_onnxruntime
from w2v_edge.providers.machine import usable_cores
from w2v_edge.providers.table import TABLE, Row

ProviderChoice = str | tuple[str, Mapping[str, Any]]
"""A provider's name, or with options of onnxruntime's, such as `("cuda", {"device_id": 1})`."""

Spinning = Literal["always", "in_runs", "never"]

MAX_THREADS = 1024


@dataclass(frozen=True)
class Execution:
    """How sessions are to run.

    Attributes:
        providers: those named, first choice first, with the caller's own options.
        threads: for one operator.
        allow_fallback: whether the CPU may stand in for a provider that does not run.
        power: `low` lets threads sleep as soon as they have nothing to do.
        buckets: whether waveforms are padded to a few lengths.
        spinning: when threads with nothing to do spin; see `Tuning`.
        block_base: how an operator's work is parted among threads; see `Tuning`.
    """

    providers: tuple[tuple[str, dict[str, str]], ...]
    threads: int
    allow_fallback: bool = False
    power: Power = "high"
    buckets: bool = field(default=False)
    spinning: Spinning = "always"
    block_base: int = 0

    @property
    def provider(self) -> str:
        """The provider asked for: the first choice."""
        return self.providers[0][0]

    @property
    def row(self) -> Row:
        """What is known of it."""
        return TABLE[self.provider]

    @property
    def allowed(self) -> set[str]:
        """Where heavy operators may run, by onnxruntime's names."""
        return {TABLE[name].ort_name for name, _ in self.providers}

    @property
    def needs_proof(self) -> bool:
        """Whether operators could end up elsewhere than was asked."""
        return self.provider != "cpu"


def choose(
    provider: ProviderChoice | Sequence[ProviderChoice],
    threads: int | None,
    *,
    allow_fallback: bool,
    power: Power = "high",
) -> Execution:
    """Check a choice of provider and threads before anything is loaded.

    Args:
        provider: a name, a name with options, or a list of such in order of preference: the
            first must run, and heavy operators may run on those named and nowhere else.
        threads: for one operator; None for the cores there are, or one in low power.
        allow_fallback: run on the CPU where `provider` does not.
        power: `high`, or `low` for one thread that never spins.

    Raises:
        ProviderError: unknown, or it cannot run here, or a bad thread count.
        MissingExtraError: onnxruntime is not installed.
    """
    providers = _parse(provider)
    if power not in get_args(Power):
        choices = ", ".join(get_args(Power))
        raise ProviderError(f"unknown power {power!r:.40}; choose one of: {choices}")
    if threads is not None and not _is_thread_count(threads):
        raise ProviderError(
            f"found threads={threads!r:.40}, expected a whole number above 0 "
            f"(at most {MAX_THREADS}), or None"
        )
    ort = import_onnxruntime()
    if not allow_fallback:
        check_installed(ort, providers[0][0])
    default = 1 if power == "low" else usable_cores()
    row = TABLE[providers[0][0]]
    runs = row.ort_name in ort.get_available_providers()
    return Execution(providers, threads or default, allow_fallback, power, row.buckets and runs)


def _parse(
    provider: ProviderChoice | Sequence[ProviderChoice],
) -> tuple[tuple[str, dict[str, str]], ...]:
    given = provider if isinstance(provider, list) else [provider]
    parsed = tuple(_parse_one(one) for one in given)
    names = [name for name, _ in parsed]
    if not parsed or len(set(names)) < len(names):
        raise ProviderError(f"found providers {names}, expected at least one, each once")
    return parsed


def _parse_one(provider: object) -> tuple[str, dict[str, str]]:
    name: object = provider
    options: Mapping[str, Any] = {}
    if isinstance(provider, tuple):
        if len(provider) != 2 or not isinstance(provider[1], Mapping):  # noqa: PLR2004
            raise ProviderError(
                f"found provider {provider!r:.60}, expected a name, or (name, {{option: value}})"
            )
        name, options = provider
    if not isinstance(name, str) or name not in TABLE:
        choices = ", ".join(get_args(Provider))
        raise ProviderError(f"unknown provider {name!r:.60}; choose one of: {choices}")
    return name, {str(key): str(value) for key, value in options.items()}


def _is_thread_count(threads: object) -> bool:
    whole = isinstance(threads, int) and not isinstance(threads, bool)
    return whole and 1 <= threads <= MAX_THREADS  # type: ignore[operator]
