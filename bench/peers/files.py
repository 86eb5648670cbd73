"""Files of all sides, made on first use and cached in one folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

from bench.peers.more_runtimes import (
    convert_to_ctranslate2,
    convert_to_executorch,
    quantize_with_nncf,
)
from bench.peers.sides import Side, open_side
from bench.peers.speech import speech
from bench.peers.timing import compare, one_line

Exporter = Literal["torchscript", "dynamo"]

FIXED_SECONDS = (0.1, 1, 3, 10, 30, 60)
"""Lengths of the sides whose shapes are fixed."""

NOISE = 1.05
"""dynamo's graph is only taken where it is this much faster than TorchScript's."""


class Workshop:
    """Makes files of one preset in a folder; existing files are reused.

    Attributes:
        folder: of the files.
        target: of our bundles.
    """

    def __init__(
        self,
        folder: Path,
        preset: str,
        threads: int,
        say: Callable[[str], None],
        *,
        target: str = "cpu",
    ) -> None:
        self.folder = folder / preset
        self.preset = preset
        self.threads = threads
        self.say = say
        self.target = target
        self.failures: dict[str, Exception] = {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def checkpoint(self) -> Path:
        """Return a checkpoint with random weights."""
        from w2v_edge.model import build_model, preset, save_checkpoint

        return self._made(
            "model.pt", lambda path: save_checkpoint(build_model(preset(self.preset)), path)
        )

    def bundle(self, precision: str) -> Path:
        """Return our bundle of a precision."""
        from w2v_edge_export import export

        checkpoint = self.checkpoint()
        return self._made(
            f"bundle-{precision}",
            lambda path: export(
                checkpoint, path, precision=cast("Any", precision), target=self.target
            ),
        )

    def graph(self, precision: str) -> Path:
        """Return the encoder's ONNX file of our bundle."""
        return self.bundle(precision) / "encoder.onnx"

    def usual(self, exporter: Exporter) -> Path:
        """Return transformers' encoder, exported."""
        from bench.peers.peer_model import as_encoder, export_usual, load_peer

        peer = load_peer(str(self.checkpoint()))
        return self._made(
            f"usual-{exporter}.onnx",
            lambda path: export_usual(
                as_encoder(peer), str(path), "context", dynamo=exporter == "dynamo"
            ),
        )

    def usual_tokenizer(self) -> Path:
        """Return transformers' front end and quantizer, exported."""
        from bench.peers.peer_model import as_tokenizer, export_usual, load_peer

        peer = load_peer(str(self.checkpoint()))
        return self._made(
            "usual-tokenizer.onnx",
            lambda path: export_usual(as_tokenizer(peer), str(path), "codes", dynamo=False),
        )

    def faster_usual(self) -> Path:
        """Return the faster of the two usual exports."""
        return self.usual(self.exporter())

    def exporter(self) -> Exporter:
        """Return which usual export is the faster one, by a quick timing, which is cached."""
        path = self._made("faster.json", self._choose)
        chosen: Exporter = json.loads(path.read_text())["exporter"]
        return chosen

    def dynamic(self, operators: tuple[str, ...] | None) -> Path:
        """Return the faster usual export after `quantize_dynamic`, otherwise with defaults."""
        usual = self.faster_usual()
        source = self._made(f"folded-{usual.stem}.onnx", lambda path: _fold(usual, path))
        name = "-".join(["dynamic", *(operators or ("default",))])
        return self._made(
            f"{name}-{usual.stem}.onnx", lambda path: _quantize(source, path, operators)
        )

    def nncf(self, *, convolutions: bool) -> Path:
        """Return OpenVINO's model of the faster usual export in 8 bits."""
        usual, name = self.faster_usual(), "all" if convolutions else "linear"
        return self._made(
            f"nncf-{name}.xml",
            lambda path: quantize_with_nncf(usual, path, convolutions=convolutions),
        )

    def ctranslate2(self) -> Path:
        """Return CTranslate2's folder."""
        checkpoint = str(self.checkpoint())
        return self._made("ctranslate2", lambda path: convert_to_ctranslate2(checkpoint, path))

    def executorch(self) -> Path:
        """Return ExecuTorch's programs, one for each length that is measured."""
        checkpoint = str(self.checkpoint())
        return self._made(
            "executorch", lambda path: convert_to_executorch(checkpoint, path, FIXED_SECONDS)
        )

    def _choose(self, path: Path) -> None:
        sides = {}
        for exporter in ("torchscript", "dynamo"):
            try:
                file = str(self.usual(exporter))
                sides[exporter] = open_side(
                    Side(exporter, "", "encoder", "ort", file), self.threads
                )
            except Exception as error:  # noqa: BLE001 - the side itself reports it too
                self.say(f"{exporter}: {one_line(error)}")
        taken = compare(sides, speech(10), warm_up=2, rounds=3, pause=0.03, seed=0)
        best = {name: min(times.raw) for name, times in taken.items() if times.raw}
        slow = best.get("torchscript", float("inf"))
        fast = best.get("dynamo", float("inf"))
        chosen = "dynamo" if fast * NOISE < slow else "torchscript"
        path.write_text(json.dumps({"exporter": chosen, "seconds": best}, allow_nan=False))

    def _made(self, name: str, make: Callable[[Path], Any]) -> Path:
        """Make a file and its external data atomically."""
        path = self.folder / name
        if name in self.failures:
            raise self.failures[name]
        if not path.exists():
            self.say(f"making {name}")
            with tempfile.TemporaryDirectory(dir=self.folder) as making:
                try:
                    make(Path(making) / name)
                except Exception as error:
                    self.failures[name] = error
                    raise
                for made in Path(making).iterdir():
                    made.rename(self.folder / made.name)
        return path


def _fold(source: Path, path: Path) -> None:
    """Fold constants, which makes weight-normed weights initializers."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(source, path, skip_symbolic_shape=True)


def _quantize(source: Path, path: Path, operators: tuple[str, ...] | None) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, path, op_types_to_quantize=list(operators) if operators else None)
