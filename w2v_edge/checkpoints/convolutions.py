"""fairseq's setting of convolutions: a Python expression, which is parsed and never run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from w2v_edge.errors import CheckpointError
from w2v_edge.model.config import ConvLayer

MAX_LAYERS = 64


def parse_convolutions(path: Path, text: str) -> tuple[ConvLayer, ...]:
    """Parse layers written as a Python expression: lists of tuples, added and multiplied."""
    try:
        layers = _list(ast.parse(text.strip(), mode="eval").body)
        return tuple(ConvLayer(*layer) for layer in layers)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise CheckpointError(
            f"{path}: conv_feature_layers: expected a list of (channels, kernel, stride), found "
            f"{text!r:.80}"
        ) from error


def _list(node: ast.expr) -> list[tuple[int, int, int]]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        layers = _list(node.left) + _list(node.right)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        times = ast.literal_eval(node.right)
        if type(times) is not int or not 0 <= times <= MAX_LAYERS:
            raise ValueError
        layers = _list(node.left) * times
    else:
        layers = [_layer(x) for x in ast.literal_eval(node)]
    if len(layers) > MAX_LAYERS:
        raise ValueError
    return layers


def _layer(values: Any) -> tuple[int, int, int]:
    channels, kernel, stride = values
    if not all(type(x) is int for x in values):
        raise TypeError
    return channels, kernel, stride
