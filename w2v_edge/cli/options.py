"""Options of verbs that run a bundle: where it runs, on how much, and what attention sees."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.names import Power, Provider
from w2v_edge.providers import ProviderChoice

if TYPE_CHECKING:
    from w2v_edge.runtime.window import Window

OPTIONS = f"{__name__}.provider_options"

threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Default: the cores there are."
)
power_option = click.option(
    "--power",
    type=click.Choice(get_args(Power)),
    default="high",
    show_default=True,
    help="Low: one thread, which sleeps whenever it waits.",
)

audio_option = click.option(
    "--audio",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Speech to work on: a file or a folder; may be repeated.  [default: clips of the package]",
)
tuned_option = click.option(
    "--tuned", is_flag=True, help="Use what w2v-edge tune found for this bundle on this device."
)


def provider_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--provider`, and `--provider-option` for its options: one value for both."""
    name = click.option(
        "--provider",
        type=click.Choice(get_args(Provider)),
        default="cpu",
        show_default=True,
        callback=_with_options,
    )
    options = click.option(
        "--provider-option",
        metavar="KEY=VALUE",
        multiple=True,
        # Read first, for the callback of the other.
        is_eager=True,
        expose_value=False,
        callback=_keep_options,
        help="An option of the provider's, in onnxruntime's words; may be repeated.",
    )
    return name(options(command))


def read_options(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Read options of a provider's, written KEY=VALUE."""
    pairs = [text.partition("=") for text in given]
    for key, equals, value in pairs:
        if not key or not equals:
            raise click.BadParameter(f"found {key + equals + value!r}, expected KEY=VALUE")
    return {key: value for key, _, value in pairs}


def _keep_options(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> None:
    ctx.meta[OPTIONS] = read_options(ctx, parameter, given)


def _with_options(ctx: click.Context, _: click.Parameter, name: str) -> ProviderChoice:
    options = ctx.meta.get(OPTIONS)
    return (name, options) if options else name


def running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what `w2v_edge.load` is told; the command gets it as one argument, `running`."""

    @wraps(command)
    def collected(
        *arguments: Any,
        provider: ProviderChoice,
        threads: int | None,
        power: Power,
        tuned: bool,
        **others: Any,
    ) -> Any:
        running = {"provider": provider, "threads": threads, "power": power, "tuned": tuned}
        return command(*arguments, running=running, **others)

    return provider_option(threads_option(power_option(tuned_option(collected))))


window_option = click.option(
    "--window",
    type=float,
    nargs=3,
    metavar="STEP LEFT RIGHT",
    help="What attention sees, in seconds: a step at a time, with so much before and behind it.",
)


def window_of(seconds: tuple[float, float, float] | None) -> Window | None:
    """Return the window that was asked for.

    Raises:
        InputError: it is none.
    """
    from w2v_edge.runtime.window import Window

    return None if seconds is None else Window(*seconds)
