"""Output of results as one JSON document, to a file or stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2v_edge.latency.report.files import write


def give(result: Mapping[str, Any], output: Path | None) -> None:
    """Write a result atomically; without a path, print it."""
    text = json.dumps(result, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    if output:
        write(output, text)
    else:
        print(text, end="")
