"""One of several processes that fine-tune together; see `ddp`, of which this has the arguments."""

from __future__ import annotations

import sys
from pathlib import Path

from w2v_edge.training.recipe import LoopOptions
from w2v_edge.training.finetune import finetune


def main() -> None:
    """Fine-tune for a few updates, the first of them with the head alone."""
    sources, output, init, updates, accumulate = sys.argv[1:]
    overrides = {
        "updates": int(updates),
        "accumulate": int(accumulate),
        "batch_seconds": 30.0,
        "validation_fraction": 0.0,
        "learning_rate": 1e-3,
    }
    finetune(
        init,
        [Path(sources)],
        Path(output),
        valid=[Path(sources).with_name("valid.tsv")],
        overrides=overrides,
        task_options={"freeze_updates": 1},
        cpu=True,
        options=LoopOptions(log_every=1, save_every=2),
    )


if __name__ == "__main__":
    main()
