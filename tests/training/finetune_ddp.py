"""One of several processes that fine-tune together; see `ddp`, of which this has the arguments."""

from __future__ import annotations

import sys
from pathlib import Path

from w2v_edge.training.loop import Pace
from w2v_edge.training.start_finetune import finetune


def main() -> None:
    """Fine-tune for a few updates, the first of them with the head alone."""
    sources, output, init, updates, accumulate = sys.argv[1:]
    wishes = {
        "updates": int(updates),
        "accumulate": int(accumulate),
        "batch_seconds": 30.0,
        "held_out": 0.0,
        "learning_rate": 1e-3,
    }
    finetune(
        init,
        [Path(sources)],
        Path(output),
        valid=[Path(sources).with_name("valid.tsv")],
        wishes=wishes,
        options={"freeze_updates": 1},
        cpu=True,
        pace=Pace(log=1, save=2),
    )


if __name__ == "__main__":
    main()
