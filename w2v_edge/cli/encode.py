"""`w2v-edge encode`: audio files to codes, context and features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from w2v_edge.cli.audio_input import open_audio
from w2v_edge.cli.encode_corpus import corpus_options, encode_corpus
from w2v_edge.cli.on import audio_tree, bundle_tree, remote_verb
from w2v_edge.cli.options import force_option, json_option, load_options, window_option
from w2v_edge.cli.output import console, require
from w2v_edge.cli.per_file import Result, files_of, name_outputs, run_per_file
from w2v_edge.files import check_absent, replacing

if TYPE_CHECKING:
    from w2v_edge.runtime.encoding import Encoding
    from w2v_edge.runtime.model import Model
    from w2v_edge.runtime.window import Window


@remote_verb(
    "encode",
    short_help="Encode audio files to files of codes.",
    inputs={"bundle": bundle_tree, "audio": audio_tree},
    outputs=("output",),
    refused=("engine",),
)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("audio", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    default="encoded",
    help="Folder for one .npz per file; with --engine, folder or URI for shards of Parquet.",
)
@click.option(
    "--context",
    "with_context",
    is_flag=True,
    help="Also write context vectors and, without --engine, all other outputs of the transformer; "
    "always on for models without codes.",
)
@click.option("--features", "with_features", is_flag=True, help="Also write features.")
@corpus_options
@window_option()
@load_options
@force_option
@json_option
def command(
    bundle: Path,
    audio: tuple[str, ...],
    output: str,
    with_context: bool,
    with_features: bool,
    corpus: dict[str, Any],
    window: Window | None,
    load_with: dict[str, Any],
    force: bool,
    as_json: bool,
) -> None:
    """Encode AUDIO files, or folders of them, to codes with BUNDLE.

    Reads any format of libsndfile, with - from standard input, averages channels and resamples.
    Each .npz holds `codes` (frames, groups) and `times` (frames,) in seconds. --features adds
    `features`; --context adds `context` and, where the bundle has them, `logits`, `logits_NAME`,
    `layer_K`, `mixed`, `projected`, `embedding`, and `context_times` where the context has other
    frames. A file that fails is reported, the others are encoded, and the exit code is 1.

    With --engine a corpus is encoded to shards of Parquet: a row per file, with its codes or its
    error. AUDIO may then also be manifests (.tsv, .jsonl) and URIs such as s3://bucket/folder. An
    interrupted job continues when it is run again.
    """
    if corpus["engine"] is not None:
        if with_features:
            raise click.UsageError("--features cannot be combined with --engine.")
        options = corpus | {"context": with_context, "window": window}
        encode_corpus(bundle, audio, output, options, load_with, force=force, as_json=as_json)
        return
    require("encoding audio files", "cpu", "audio")
    import w2v_edge

    job = _Job(
        w2v_edge.load(bundle, **load_with),
        with_context=with_context,
        with_features=with_features,
        window=window,
    )
    files = files_of(tuple(map(Path, audio)))
    outputs = name_outputs(files, Path(output), ".npz")

    def encode(i: int, source: Path) -> Result:
        return _encode_one(job, source, outputs[i], force=force)

    run_per_file("encode", files, encode, _show, as_json=as_json)


class _Job:
    """The model and the outputs to compute for each file."""

    def __init__(
        self,
        model: Model,
        *,
        with_context: bool,
        with_features: bool,
        window: Window | None,
    ) -> None:
        self.model = model
        self.window = window
        self.has_codes = "tokenizer" in model.manifest.graphs
        self.with_context = with_context or not self.has_codes
        self.with_features = with_features

    def arrays(self, source: Path) -> dict[str, Any]:
        """Return the arrays of one file by name; the file is read in blocks."""
        from w2v_edge.runtime.buffers import GrowingArray

        model, audio = self.model, open_audio(source, self.model.sample_rate)
        if self.with_context:
            encoding = model.encode(audio, window=self.window)
            made: dict[str, Any] = _of_encoding(encoding, with_features=self.with_features)
        elif self.with_features and model.manifest.quantizer_input == "features":
            grown = {"codes": GrowingArray(), "features": GrowingArray()}
            for piece in model.encode_blocks(audio, context=False):
                for name, rows in grown.items():
                    rows.append(getattr(piece, name))
            made = {name: rows.take() for name, rows in grown.items()}
            made["times"] = model.times(len(made["codes"]))
        else:
            codes = model.tokenize(audio, window=self.window)
            of_context = model.manifest.quantizer_input == "context"
            times = (model.context_times if of_context else model.times)(len(codes))
            made = {"times": times, "codes": codes}
            made["features"] = model.features(audio) if self.with_features else None
        return {name: array for name, array in made.items() if array is not None}


def _of_encoding(encoding: Encoding, *, with_features: bool) -> dict[str, Any]:
    fewer = len(encoding.context_times) != len(encoding.times)
    return {
        "times": encoding.times,
        "codes": encoding.codes,
        "context": encoding.context,
        "context_times": encoding.context_times if fewer else None,
        "features": encoding.features if with_features else None,
        "logits": encoding.logits,
        "mixed": encoding.mixed,
        "embedding": encoding.embedding,
        "projected": encoding.projected,
        **{f"layer_{layer}": values for layer, values in encoding.layers.items()},
        **{f"logits_{name}": values for name, values in encoding.heads.items()},
    }


def _encode_one(job: _Job, source: Path, destination: Path, *, force: bool) -> Result:
    check_absent(destination, force=force)
    arrays = job.arrays(source)
    with replacing(destination) as temporary:
        np.savez(temporary, **arrays)
    seconds = len(arrays["times"]) * job.model.manifest.hop / job.model.sample_rate
    return {
        "output": str(destination),
        "seconds": round(seconds, 3),
        "frames": len(arrays["times"]),
    }


def _show(result: Result) -> None:
    console().print(
        f"{result['output']}: {result['frames']} frames of {result['file']}", soft_wrap=True
    )
