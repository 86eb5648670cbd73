"""Options shared by verbs: types, environment variables and deprecated names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.cli.output import warn
from w2v_edge.errors import InputError
from w2v_edge.names import Kind, Power, Provider
from w2v_edge.providers import ProviderChoice

if TYPE_CHECKING:
    from w2v_edge.runtime.window import Window

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

POSITIVE = click.FloatRange(min=0, min_open=True)
PROVIDER_OPTIONS = f"{__name__}.provider_options"
ARGUMENTS = f"{__name__}.arguments"
"""Key of a verb's context: its arguments as the user gave them, with the names of today."""


class Verb(click.Command):
    """A verb: each option has an environment variable, and deprecated names still work.

    Args:
        renamed: new option name by deprecated name; both are accepted for one release.
    """

    def __init__(
        self, *arguments: Any, renamed: dict[str, str] | None = None, **attributes: Any
    ) -> None:
        super().__init__(*arguments, **attributes)
        self._renamed = renamed or {}
        for option in self.params:
            if isinstance(option, click.Option):
                name = f"w2v-edge {self.name} {max(option.opts, key=len).lstrip('-')}"
                option.envvar = name.replace("-", "_").replace(" ", "_").upper()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, with deprecated names replaced by the new ones."""
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[ARGUMENTS] = modern = self._modern(args[:end]) + args[end:]
        return super().parse_args(ctx, list(modern))

    def _modern(self, args: list[str]) -> list[str]:
        made: list[str] = []
        rest = list(args)
        while rest:
            name, equals, value = rest.pop(0).partition("=")
            new = self._renamed.get(name, name)
            if name == "--window" and not equals and _numbers(rest[:3]) == 3:  # noqa: PLR2004
                value = ",".join(f"{x}={y}" for x, y in zip(WINDOW, rest[:3], strict=True))
                equals, rest = "=", rest[3:]
                deprecated("--window STEP LEFT RIGHT", f"--window {value}")
            elif new == "--report" != name:
                from w2v_edge.latency.report.files import FORMATS

                if equals or (rest and Path(rest[0]).suffix in FORMATS):
                    value, equals = value or rest.pop(0), "="
                    deprecated(f"{name} FILE", f"--report {value}")
                else:
                    new = name
            elif new != name:
                deprecated(name, new)
            made.append(f"{new}{equals}{value}")
        return made


def verb(
    name: str, renamed: dict[str, str] | None = None, *, short_help: str
) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function into a verb; see `Verb`.

    Args:
        name: of the verb.
        renamed: new option name by deprecated name.
        short_help: the verb's line in `w2v-edge --help`, at most 50 characters.
    """
    return click.command(name, cls=Verb, renamed=renamed, short_help=short_help)


def deprecated(old: str, new: str) -> None:
    """Warn about an option name that the next release removes."""
    context = click.get_current_context(silent=True)
    if context is None or not context.resilient_parsing:
        warn(f"{old} is deprecated; use {new}")


def _numbers(words: list[str]) -> int:
    try:
        return len([float(word) for word in words])
    except ValueError:
        return 0


class ListOf(click.ParamType[Any]):
    """Values separated by commas.

    Args:
        of: type of each value.
    """

    def __init__(self, of: click.ParamType[Any]) -> None:
        self.of = of
        self.name = f"{of.name},..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Return the values."""
        if isinstance(value, tuple):
            return value
        words = str(value).split(",")
        return tuple(self.of.convert(word.strip(), param, ctx) for word in words)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Show the type of one value."""
        inner = self.of.get_metavar(param, ctx)
        return f"{inner or self.of.name.upper().split()[0]}[,...]"


def list_option(
    *names: str,
    of: click.ParamType[Any],
    default: str | None = None,
    unique: bool = True,
    **attributes: Any,
) -> Decorator:
    """Add an option for a list, which may be repeated; the command gets a tuple.

    Args:
        names: names of the option.
        of: type of each value.
        default: the list as text; None for an empty tuple.
        unique: whether to drop repeated values.
        attributes: other arguments of `click.option`.
    """

    def flat(_: click.Context, __: click.Parameter, lists: tuple[Any, ...]) -> tuple[Any, ...]:
        values = chain.from_iterable(lists)
        return tuple(dict.fromkeys(values) if unique else values)

    return click.option(
        *names,
        type=ListOf(of),
        multiple=True,
        default=None if default is None else (default,),
        callback=flat,
        **attributes,
    )


class FiniteRange(click.FloatRange):
    """A range of finite numbers; click's bounds let NaN pass."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, found {value}", param, ctx)
        return number


class Milliseconds(FiniteRange):
    """A time in milliseconds, with or without the unit."""

    name = "ms"

    def __init__(self) -> None:
        super().__init__(0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        return super().convert(str(value).strip().removesuffix("ms").strip(), param, ctx)


class Seconds(FiniteRange):
    """A time in seconds, with or without a unit, such as 1s or 500ms."""

    name = "seconds"

    def __init__(self) -> None:
        super().__init__(0, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        text = str(value).strip()
        if text.endswith("ms"):
            return Milliseconds().convert(text, param, ctx) / 1000
        return super().convert(text.removesuffix("s").strip(), param, ctx)


force_option = click.option("--force", is_flag=True, help="Overwrite existing output.")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON on stdout."
)
language_option = click.option(
    "--language", help="Language of the adapter and vocabulary, in a model with several."
)
processor_option = click.option(
    "--processor",
    type=click.Path(path_type=Path),
    help="Folder of the preprocessor's and the tokenizer's files, if not beside the weights.",
)
base_option = click.option(
    "--base",
    metavar="DIR|NAME",
    show_default="as its config says",
    help="The model that a LoRA folder is merged into.",
)
read_as_option = click.option(
    "--as",
    "read_as",
    type=click.Choice(get_args(Kind)),
    show_default="by its class",
    help="Read a transformers folder as this, whatever its class, and leave the rest out.",
)
blank_option = click.option(
    "--blank",
    metavar="LABEL|INDEX",
    show_default="as the files say",
    help="The CTC blank, where the files do not say it or are wrong.",
)


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options of reading a checkpoint; the command gets them as a dict, `read_with`.

    The dict has the options of `w2v_edge.checkpoints.load_source` that were given.
    """

    @wraps(command)
    def collected(*arguments: Any, **options: Any) -> Any:
        names = {"language": "language", "kind": "read_as"}
        names |= {name: name for name in ("processor", "base", "blank")}
        given = {name: options.pop(option) for name, option in names.items()}
        read_with = {name: value for name, value in given.items() if value is not None}
        return command(*arguments, read_with=read_with, **options)

    added = base_option(blank_option(collected))
    return language_option(read_as_option(processor_option(added)))


head_option = list_option(
    "--head",
    "heads",
    of=click.STRING,
    metavar="[NAME=]TENSORS[:WORD...]",
    help="Read a head of a class that is in no library: the beginning of the names of its tensors; "
    "mean, sum or max over frames; values, softmax or sigmoid. All else but the body is left out.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    show_default="all usable cores",
    help="Number of threads per operator.",
)
power_option = click.option(
    "--power",
    type=click.Choice(get_args(Power)),
    default="high",
    help="Power mode; low runs one thread, which sleeps while it waits.",
)
tuned_option = click.option(
    "--tuned", is_flag=True, help="Use the settings that w2v-edge tune found for this device."
)


class OneOf(click.Choice[str]):
    """A choice among many names: its usage shows one word, and `listed` has the names."""

    def __init__(self, names: Sequence[str], metavar: str) -> None:
        super().__init__(names)
        self._metavar = metavar

    @property
    def listed(self) -> str:
        """The names, for the help of an option."""
        return ", ".join(self.choices)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:  # noqa: ARG002
        """Show one word: the names would not fit a line."""
        return self._metavar


PROVIDER = OneOf(get_args(Provider), "PROVIDER")


def provider_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--provider` and `--provider-option`; the command gets both as one `provider`."""
    name = click.option(
        "--provider",
        type=PROVIDER,
        default="cpu",
        callback=_with_options,
        help=f"Execution provider of onnxruntime: {PROVIDER.listed}.",
    )
    options = click.option(
        "--provider-option",
        metavar="KEY=VALUE",
        multiple=True,
        # Eager: the callback of --provider reads it.
        is_eager=True,
        expose_value=False,
        callback=_keep_options,
        help="Option of the execution provider, as onnxruntime names it; may be repeated.",
    )
    return name(options(command))


def read_options(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Parse options of a provider, written KEY=VALUE."""
    pairs = [text.partition("=") for text in given]
    for key, equals, value in pairs:
        if not key or not equals:
            raise click.BadParameter(f"found {key + equals + value!r}, expected KEY=VALUE")
    return {key: value for key, _, value in pairs}


def _keep_options(ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> None:
    ctx.meta[PROVIDER_OPTIONS] = read_options(ctx, parameter, given)


def _with_options(ctx: click.Context, _: click.Parameter, name: str) -> ProviderChoice:
    options = ctx.meta.get(PROVIDER_OPTIONS)
    return (name, options) if options else name


def load_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `w2v_edge.load`; the command gets them as one dict, `load_with`."""

    @wraps(command)
    def collected(
        *arguments: Any,
        provider: ProviderChoice,
        threads: int | None,
        power: Power,
        tuned: bool,
        **others: Any,
    ) -> Any:
        load_with = {"provider": provider, "threads": threads, "power": power, "tuned": tuned}
        return command(*arguments, load_with=load_with, **others)

    return provider_option(threads_option(power_option(tuned_option(collected))))


WINDOW = ("step", "left", "right")


class WindowType(click.ParamType[Any]):
    """A context window, such as `step=20,left=5,right=5`, in seconds.

    Args:
        live: whether omitted parts have the defaults of a stream, not of a long recording.
    """

    name = "window"

    def __init__(self, *, live: bool) -> None:
        self._live = live

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Window:
        """Return the window."""
        from w2v_edge.runtime.window import LONG_WINDOW, STREAM_WINDOW, Window

        if isinstance(value, Window):
            return value
        parts: dict[str, float] = vars(STREAM_WINDOW if self._live else LONG_WINDOW).copy()
        expected = "expected seconds, such as step=20,left=5,right=5"
        given = set()
        for word in str(value).split(","):
            name, _, number = (part.strip() for part in word.partition("="))
            if name not in WINDOW or name in given:
                self.fail(f"found {word!r:.40}, {expected}", param, ctx)
            given.add(name)
            try:
                parts[name] = float(number)
            except ValueError:
                self.fail(f"found {word!r:.40}, {expected}", param, ctx)
        try:
            return Window(**parts)
        except InputError as error:
            self.fail(str(error), param, ctx)


def window_option(*, live: bool = False) -> Decorator:
    """Add `--window`, the attention window; see `WindowType` for `live`."""
    return click.option(
        "--window",
        type=WindowType(live=live),
        metavar="step=S,left=S,right=S",
        help="Attention window in seconds: steps, each with context on its left and right. "
        + (
            "Defaults of omitted parts: step=0.32,left=4,right=0.32."
            if live
            else "Defaults of omitted parts: step=20,left=5,right=5."
        ),
        show_default=None if live else "all of the audio, up to the length that fits",
    )
