"""The page in a real browser; `page.test.mjs` has the checks, this prepares them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import soundfile

import w2v_edge
from bench.webgpu import Browser
from w2v_edge.latency.compare_reports import compare
from w2v_edge.latency.measure.inputs import Speech
from w2v_edge.latency.report.files import read_report
from w2v_edge.latency.report.schema import shipped

from .conftest import APPS, Clip

WEB = APPS / "web"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    NODE is None
    or not Path(CHROMIUM).is_file()
    or not (WEB / "node_modules/playwright-core").is_dir()
    or not (WEB / "node_modules/onnxruntime-web").is_dir(),
    reason="needs node, chromium and the page's npm packages: make test-web",
)


def test_the_page_in_chromium(
    bundle: Callable[[str], Path],
    int8_bundle: Callable[[str], Path],
    clip: Clip,
    tmp_path: Path,
) -> None:
    """Every rule of `page.test.mjs` holds for a page that is built from bundles of today."""
    assert NODE is not None
    folders = (bundle("tiny"), int8_bundle("tiny"))
    build = [NODE, str(WEB / "build.mjs"), str(tmp_path / "page"), *map(str, folders)]
    subprocess.run(build, check=True, timeout=60)
    shutil.copy(clip.path, tmp_path / "clip.wav")
    soundfile.write(tmp_path / "clip.flac", clip.waveform, 16_000, subtype="PCM_16")
    codes = {x.name: w2v_edge.load(x).tokenize(clip.waveform).tolist() for x in folders}
    (tmp_path / "expected.json").write_text(json.dumps(codes))
    _check("page.test.mjs", FIXTURE=tmp_path, PAGE=tmp_path / "page")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_the_bench_page_in_chromium(tmp_path: Path) -> None:
    """Every rule of `bench.test.mjs` holds; its reports fit the schema and are compared."""
    certificate, key, received = (tmp_path / x for x in ("cert.pem", "key.pem", "reports"))
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=desk.test".split()
    subprocess.run(
        [*make, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60
    )
    received.mkdir()
    _check(
        "bench.test.mjs",
        BUNDLE=w2v_edge.data.TINY_INT8,
        REPORTS=received,
        CERTIFICATE=certificate,
        KEY=key,
    )
    schema = jsonschema.Draft202012Validator(json.loads(shipped()))
    for path in received.iterdir():
        schema.validate(json.loads(path.read_text()))
    saved, *sent = (read_report(x) for x in sorted(received.iterdir(), reverse=True))
    found = compare(saved, sent[-1], across_devices=True)
    assert [pair.failure for pair in found.pairs] == [""]
    assert saved.audio == Speech.read((), 16_000).record


def _check(script: str, **places: Path) -> None:
    """Run the tests of a script, with places as environment variables."""
    assert NODE is not None
    outcome = subprocess.run(
        [NODE, "--test", "--test-reporter=spec", str(WEB / script)],
        env={**os.environ, **{x: str(y) for x, y in places.items()}, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    print(outcome.stdout)
    assert outcome.returncode == 0, outcome.stdout[-6000:] + outcome.stderr[-2000:]


def test_webgpu_gives_the_codes(bundle: Callable[[str], Path]) -> None:
    """`bench.webgpu` runs a graph with WebGPU in Chromium, and names each operator's provider."""
    folder = bundle("tiny")
    model = w2v_edge.load(folder)
    width = model.manifest.graphs["quantizer"].inputs[0].axes[-1]
    assert isinstance(width, int)
    features = np.random.default_rng(0).standard_normal((2, 30, width)).astype(np.float32)
    with Browser(folder) as browser:
        found = browser.run("quantizer", features=features)
        with pytest.raises(RuntimeError, match=r"^graph 'quantizer': .*features"):
            browser.run("quantizer", waveform=features)
    expected = model.run("quantizer", features=features)
    assert set(found) == set(expected)
    assert np.array_equal(found["codes"], expected["codes"])
    np.testing.assert_allclose(found["vectors"], expected["vectors"], atol=1e-5)
    assert "MatMul" in browser.placement["quantizer"]["WebGpuExecutionProvider"]


@pytest.mark.parametrize("arguments", [[], ["folder"], ["folder", "no-bundle"]])
def test_building_says_what_is_missing(tmp_path: Path, arguments: list[str]) -> None:
    """Without a bundle to build from, building is an error of one line and writes nothing."""
    assert NODE is not None
    outcome = subprocess.run(
        [NODE, str(WEB / "build.mjs"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome.returncode in {1, 2}
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_building_replaces_only_pages_of_its_own(
    bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    """Building replaces an earlier page, but no folder with other files."""
    assert NODE is not None
    command = [NODE, str(WEB / "build.mjs"), str(tmp_path / "page"), str(bundle("tiny"))]
    for _ in range(2):
        subprocess.run(command, check=True, timeout=60)
    (tmp_path / "page/.w2v-edge-page").unlink()
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 1
    assert "was not written by this program" in outcome.stderr
    assert (tmp_path / "page/index.html").is_file()
