"""Writes a bundle's graphs in ORT format, for apps with a reduced build of onnxruntime.

The graphs are in a separate folder beside the bundle, since the list of a bundle's files is fixed
and an app ships one or the other. The folder is written atomically and contains

    NAME.ort                    each graph of the bundle, including its weights
    required_operators.config   for --include_ops_by_config of onnxruntime's build
    contents.json               size and SHA-256 of these files, and the manifest's SHA-256
"""

from __future__ import annotations

import itertools
import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

from w2v_edge import strict
from w2v_edge.bundle import Bundle, file_info, is_graph_file
from w2v_edge.bundle.golden import check_golden
from w2v_edge.errors import ConfigError, ParityError
from w2v_edge.providers import choose
from w2v_edge.runtime.model import Model
from w2v_edge.runtime.session import Session

OPERATORS = "required_operators.config"
CONTENTS = "contents.json"
MAX_BYTES = 2**31 - 1
"""Largest flatbuffer, which a file in ORT format is."""

BYTES_PER_WEIGHT = {"fp32": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}
"""Least size of a weight by precision; some layers keep float32."""


def is_ort_file(name: str) -> bool:
    """Return whether a folder of graphs in ORT format may hold a file of this name."""
    return name in {OPERATORS, CONTENTS} or is_graph_file(name, ".ort")


def ort_folder(bundle: Path) -> Path:
    """Return the folder of a bundle's graphs in ORT format, beside the bundle."""
    return bundle.with_name(f"{bundle.name}-ort")


def check_ort_size(weights: int, precision: str) -> None:
    """Refuse a model whose weights do not fit into one file in ORT format.

    Args:
        weights: number of weights of the encoder.
        precision: of the export.

    Raises:
        ConfigError: they do not fit.
    """
    size = int(weights * BYTES_PER_WEIGHT[precision])
    if size > MAX_BYTES:
        raise ConfigError(
            f"ORT format holds all weights in one file of at most {MAX_BYTES / 1e9:.1f} GB, these "
            f"take {size / 1e9:.1f} GB in {precision}; choose a smaller --precision, fewer layers "
            "with --layer, or --target cpu, whose weights lie in files of their own"
        )


def write_ort_format(bundle: Bundle, folder: Path) -> None:
    """Convert every graph of a bundle and check the result against its golden vectors.

    Args:
        bundle: a complete bundle.
        folder: an existing, empty folder.

    Raises:
        ParityError: outputs of a converted graph differ from the bundle's golden vectors.
    """
    shapes = bundle.manifest.shapes or (None,)
    for name, shape in itertools.product(bundle.manifest.graphs, shapes):
        path = bundle.graph_path(name, shape)
        _convert(path, folder / f"{path.stem}.ort")
    _write_operators(folder)
    _write_contents(bundle, folder)
    rows, _ = check_golden(open_ort_format(bundle, folder))
    failures = [row for row in rows if not row.ok]
    if failures:
        first = failures[0]
        raise ParityError(
            f"graphs in ORT format: {len(failures)} of {len(rows)} comparisons with the golden "
            f"vectors failed, first: {first.output} of {first.case}; nothing was written"
        )


def open_ort_format(bundle: Bundle, folder: Path) -> Model:
    """Return the model of a bundle, which runs the graphs in ORT format."""
    found = _OrtBundle(bundle.folder, bundle.manifest, ort_folder=folder)
    return Model(Session(found, choose("cpu", None, allow_fallback=False)))


@dataclass(frozen=True, kw_only=True)
class _OrtBundle(Bundle):
    """A bundle whose graphs are read from another folder."""

    ort_folder: Path

    def path(self, name: str) -> Path:
        if name.endswith(".onnx"):
            return (self.ort_folder / name).with_suffix(".ort")
        return super().path(name)


def _convert(graph: Path, output: Path) -> None:
    """Write one graph in ORT format, including its weights.

    It is optimised at level `extended`, since a minimal build has no optimiser. The next level
    chooses a layout of weights for the current processor, which does not suit a phone.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(output)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 3
    ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _write_operators(folder: Path) -> None:
    """List the operators that the graphs in ORT format use."""
    from onnxruntime.tools.ort_format_model import create_config_from_models

    # onnxruntime logs the name of the temporary file.
    logger = logging.getLogger("ort_format_model.utils")
    level = logger.level
    logger.setLevel(logging.WARNING)
    path = folder / OPERATORS
    try:
        with warnings.catch_warnings():
            # onnxruntime leaves files to be closed by the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            models = sorted(folder.glob("*.ort"))
            create_config_from_models(models, path, enable_type_reduction=False)
    finally:
        logger.setLevel(level)
    # The comments name folders of this machine.
    lines = [x for x in path.read_text(encoding="utf-8").splitlines() if not x.startswith("#")]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_contents(bundle: Bundle, folder: Path) -> None:
    """Write the hashes of the bundle's manifest and of each file."""
    import onnxruntime as ort

    contents = {
        "bundle": bundle.manifest.sha256,
        "onnxruntime": ort.__version__,
        "files": {x.name: strict.to_plain(file_info(x)) for x in sorted(folder.iterdir())},
    }
    text = json.dumps(contents, indent=1, sort_keys=True, allow_nan=False) + "\n"
    (folder / CONTENTS).write_text(text, encoding="utf-8")
