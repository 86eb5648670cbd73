"""Types of options that take several values at once, or a file or none."""

from __future__ import annotations

from typing import Any

import click


class ListOf(click.ParamType[Any]):
    """Values with commas between them; each is checked by a type of click's."""

    def __init__(self, of: click.ParamType[Any]) -> None:
        self.of = of
        self.name = f"{of.name},..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Return the values, each once."""
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",")]
        return tuple(dict.fromkeys(self.of.convert(word, param, ctx) for word in words))

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        """Show the choices there are."""
        inner = self.of.get_metavar(param, ctx)
        return f"{inner or self.of.name.upper().split()[0]}[,...]"


class OptionalFile(click.ParamType[Any]):
    """A file to write, or nothing for standard output."""

    name = "[FILE]"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Any:
        """Take any name."""
        return value
