"""One of several processes that train together on the CPU; started by a test with torchrun's words.

python -m tests.training.ddp SOURCES OUTPUT INIT UPDATES ACCUMULATE
"""

from __future__ import annotations

import sys
from pathlib import Path

from w2v_edge.training.loop import Pace
from w2v_edge.training.start import pretrain


def main() -> None:
    """Pre-train for a few updates, with the rates of a longer run."""
    sources, output, init, updates, accumulate = sys.argv[1:]
    wishes = {
        "updates": int(updates),
        "accumulate": int(accumulate),
        "batch_seconds": 10.0,
        "crop_seconds": 3.0,
        "least_seconds": 0.3,
        "held_out": 0.3,
        "learning_rate": 1e-3,
    }
    pretrain(
        [Path(sources)],
        Path(output),
        init=Path(init),
        wishes=wishes,
        cpu=True,
        pace=Pace(log=1, save=2),
    )


if __name__ == "__main__":
    main()
