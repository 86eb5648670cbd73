"""One of several processes that train together on the CPU; started by a test with torchrun's words.

python -m tests.training.ddp SOURCES OUTPUT INIT UPDATES ACCUMULATE
"""

from __future__ import annotations

import sys
from pathlib import Path

from w2v_edge.training.recipe import LoopOptions
from w2v_edge.training.pretrain import pretrain


def main() -> None:
    """Pre-train for a few updates, with the rates of a longer run."""
    sources, output, init, updates, accumulate = sys.argv[1:]
    overrides = {
        "updates": int(updates),
        "accumulate": int(accumulate),
        "batch_seconds": 10.0,
        "crop_seconds": 3.0,
        "min_seconds": 0.3,
        "validation_fraction": 0.3,
        "learning_rate": 1e-3,
    }
    pretrain(
        [Path(sources)],
        Path(output),
        init=Path(init),
        overrides=overrides,
        cpu=True,
        options=LoopOptions(log_every=1, save_every=2),
    )


if __name__ == "__main__":
    main()
