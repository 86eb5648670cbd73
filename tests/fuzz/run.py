"""Fuzz one reader with atheris: `python tests/fuzz/run.py NAME [libFuzzer options]`.

Finds are written to the folder `finds/`; minimised, they belong into `corpus/NAME/`, where the
tests replay them. Given a find as its last argument, this runs it alone and shows its traceback.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

with atheris.instrument_imports(include=["w2v_edge", "targets", "zipfile", "numpy.lib.format"]):
    import targets  # type: ignore[import-not-found]


LIMITS = ("-timeout=20", "-rss_limit_mb=2048", "-malloc_limit_mb=1024", "-max_len=65536")


def main() -> None:
    """Run libFuzzer on a target, from its corpus; new inputs stay in a folder outside git."""
    name, *options = sys.argv[1:]
    given = [*LIMITS, f"-artifact_prefix={HERE}/finds/{name}-", *options]
    if not (options and Path(options[-1]).is_file()):
        grown = HERE / "grown" / name
        for folder in (grown, HERE / "finds"):
            folder.mkdir(parents=True, exist_ok=True)
        given += [str(grown), str(HERE / "corpus" / name)]
        # Decoders write of every damaged frame.
        given += ["-close_fd_mask=2"] if name == "audio" else []
    atheris.Setup([sys.argv[0], *given], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
