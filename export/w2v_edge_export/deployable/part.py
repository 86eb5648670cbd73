"""What the tracer needs to know of a twin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Part:
    """A twin with its example inputs.

    Attributes:
        name: of the data file that its weights go to, and the prefix of their names.
        module: the twin.
        inputs: an example of each input, by name; the names become those of the traced graph.
        dynamic: the named dynamic axes of each input.
        outputs: names of the outputs, in order.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
