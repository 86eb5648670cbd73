"""The requested provider and threads, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from w2v_edge.errors import ProviderError
from w2v_edge.names import Power, Provider
from w2v_edge.providers.installation import check_installed, import_onnxruntime
from w2v_edge.providers.machine import default_threads
from w2v_edge.providers.table import (
    ACCELERATOR_BATCH_SECONDS,
    ACCELERATOR_GROUP_SECONDS,
    TABLE,
    ProviderInfo,
)

ProviderChoice = str | tuple[str, Mapping[str, Any]]
"""A provider's name, or with options of onnxruntime's, such as `("cuda", {"device_id": 1})`."""

Spinning = Literal["always", "in_runs", "never"]

Arithmetic = Literal["f32", "bf16"]
"""OpenVINO's names of the types that float32 graphs are computed in."""

MAX_THREADS = 1024


@dataclass(frozen=True)
class Execution:
    """How sessions are run.

    Attributes:
        providers: names, first choice first, each with the caller's own options.
        threads: intra-op threads.
        allow_fallback: whether the CPU may replace a provider that does not start.
        power: `low` lets threads sleep as soon as they have nothing to do.
        spinning: when idle threads spin; see `Tuning`.
        block_base: how an operator's work is split among threads; see `Tuning`.
        kleidiai: whether Arm's KleidiAI kernels are used where there are any; see `Tuning`.
        arithmetic: `bf16` for float32 graphs that OpenVINO computes in bfloat16.
    """

    providers: tuple[tuple[str, dict[str, str]], ...]
    threads: int
    allow_fallback: bool = False
    power: Power = "high"
    spinning: Spinning = "always"
    block_base: int = 0
    kleidiai: bool = True
    arithmetic: Arithmetic = "f32"

    @property
    def provider(self) -> str:
        """The requested provider: the first choice."""
        return self.providers[0][0]

    @property
    def info(self) -> ProviderInfo:
        """The table's entry of the requested provider."""
        return TABLE[self.provider]

    @property
    def allowed(self) -> set[str]:
        """Providers on which heavy operators may run, by onnxruntime's names."""
        return {TABLE[name].ort_name for name, _ in self.providers}

    @property
    def needs_proof(self) -> bool:
        """Whether operators could run elsewhere than requested."""
        return self.provider != "cpu"

    def running(self, started: Sequence[str]) -> ProviderInfo:
        """Return the provider that runs, given onnxruntime's names of those that started."""
        for name, _ in self.providers:
            if TABLE[name].ort_name in started:
                return TABLE[name]
        return TABLE["cpu"]

    def options_of(self, info: ProviderInfo) -> dict[str, str]:
        """Return the caller's options of a provider."""
        return next((own for name, own in self.providers if TABLE[name] is info), {})

    @property
    def half(self) -> bool:
        """Whether the first provider computes float32 graphs in float16."""
        own, needed = self.options_of(self.info), self.info.half
        return bool(needed) and all(own.get(key, x) == x for key, x in needed.items())

    def batch_seconds(self, running: ProviderInfo) -> float:
        """Return the audio in a batch for the provider that runs."""
        return ACCELERATOR_BATCH_SECONDS if self._on_gpu(running) else running.batch_seconds

    def group_seconds(self, running: ProviderInfo) -> float:
        """Return the audio from which batches are formed, for the provider that runs."""
        return ACCELERATOR_GROUP_SECONDS if self._on_gpu(running) else running.group_seconds

    def _on_gpu(self, running: ProviderInfo) -> bool:
        """Whether a provider of several devices, such as OpenVINO, uses another than the CPU."""
        return self.options_of(running).get("device_type", "CPU") != "CPU"


def choose(
    provider: ProviderChoice | Sequence[ProviderChoice],
    threads: int | None,
    *,
    allow_fallback: bool,
    power: Power = "high",
) -> Execution:
    """Check the requested provider and threads before anything is loaded.

    Args:
        provider: a name, a name with options, or a list or tuple of these in order of preference.
            The first must run, and heavy operators run only on the listed ones.
        threads: intra-op threads; None for the usable cores that are fast, or one in low power.
        allow_fallback: run on the CPU if `provider` does not start.
        power: `high`, or `low` for one thread that never spins.

    Raises:
        ProviderError: the provider is unknown or cannot run here, or `threads` is invalid.
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
    default = 1 if power == "low" else default_threads()
    return Execution(providers, threads or default, allow_fallback, power)


def _parse(
    provider: ProviderChoice | Sequence[ProviderChoice],
) -> tuple[tuple[str, dict[str, str]], ...]:
    parsed = tuple(_parse_one(one) for one in _as_list(provider))
    names = [name for name, _ in parsed]
    if not parsed or len(set(names)) < len(names):
        raise ProviderError(f"found providers {names}, expected at least one, each once")
    return parsed


def _as_list(provider: object) -> list[object]:
    """Return a list of providers; a tuple is one too, unless it is a name with options."""
    if isinstance(provider, list):
        return provider
    if isinstance(provider, tuple):
        with_options = len(provider) > 1 and not isinstance(provider[1], str | tuple)
        return [provider] if with_options else list(provider)
    return [provider]


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
