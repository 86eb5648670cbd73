"""Types of options that name transformer layers."""

from __future__ import annotations

from typing import Any

import click

from w2v_edge.cli.options import ListOf


class LayerNumber(click.ParamType[int | str]):
    """The number of a layer, or `all`."""

    name = "integer or all"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Return the number, or `all`."""
        return "all" if value == "all" else click.INT.convert(value, param, ctx)


class Mix(click.ParamType[tuple[int | str, ...]]):
    """Layers whose outputs are averaged, such as `mean:11,14,16`."""

    name = "mean:layers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | str, ...]:
        """Return the layers."""
        kind, _, layers = str(value).partition(":")
        if kind != "mean" or not layers:
            self.fail(f"expected mean:LAYERS, such as mean:6,9 or mean:all, found {value}")
        return ListOf(LayerNumber()).convert(layers, param, ctx)
