"""Target profiles: the graphs that a runtime takes, in one `.toml` file each."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib import resources
from typing import Literal

from w2v_edge import strict
from w2v_edge.errors import ConfigError

CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""

STANDARD_PRECISIONS = ("fp32", "fp16")
"""Precisions of graphs of fixed shapes, which have standard operators only.

The graphs of bf16 do too, but OpenVINO 2025.4 computes `context` of fixed shapes in bfloat16 at a
cosine of 0.98 in the worst frame of `base`, and with open axes at 0.99999.
"""


@dataclass(frozen=True)
class Target:
    """Profile of the graphs that a runtime takes.

    Attributes:
        name: name of the profile.
        description: one line for `--help`.
        shapes: `dynamic`, batch and time, unless an export asks for others; or `fixed`, which an
            export has to choose.
        tiling: `scan` runs the front end over tiles of time in the graph, `none` over the whole.
        tile_seconds: longest tile.
        opset: version of ai.onnx.
        ir_version: version of the file format.
        domains: operator domains that may be used.
        precisions: precisions that the runtime supports.
        ort_format: whether the graphs are also written in ORT format, beside the bundle.
        largest_batch: largest batch of fixed shape; None for any.
        between_integers: whether int8 is written as convolutions between QuantizeLinear and
            DequantizeLinear, standard operators; else as integer products of onnxruntime's own.
    """

    name: str
    description: str
    shapes: Literal["dynamic", "fixed"]
    tiling: Literal["scan", "none"]
    tile_seconds: float
    opset: int
    ir_version: int
    domains: tuple[str, ...]
    precisions: tuple[str, ...]
    ort_format: bool = False
    largest_batch: int | None = None
    between_integers: bool = False

    def fixed(self) -> Target:
        """Return the profile for graphs of fixed shapes: no loop, no branch, standard operators.

        Of the standard's operators all shapes can be inferred; integer products are not among them.
        """
        standard = (*STANDARD_PRECISIONS, "int8") if self.between_integers else STANDARD_PRECISIONS
        precisions = tuple(x for x in self.precisions if x in standard)
        return replace(self, shapes="fixed", tiling="none", domains=("",), precisions=precisions)


def target_names() -> list[str]:
    """Return the names of all profiles."""
    folder = resources.files(__name__)
    return sorted(x.name[:-5] for x in folder.iterdir() if x.name.endswith(".toml"))


def load_target(name: str) -> Target:
    """Read the profile called `name`.

    Raises:
        ConfigError: no profile has this name.
    """
    if name not in target_names():
        raise ConfigError(f"unknown target {name!r}; choose one of: {', '.join(target_names())}")
    text = (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8")
    return strict.from_plain(Target, {"name": name, **tomllib.loads(text)})
