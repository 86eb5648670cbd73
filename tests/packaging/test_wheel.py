"""One wheel with two packages and their dependencies."""

from __future__ import annotations

import email
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOTS = {"w2v_edge": REPOSITORY, "w2v_edge_export": REPOSITORY / "export"}


@pytest.fixture(scope="session")
def contents(wheel: Path) -> dict[str, bytes]:
    """The files of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _info(contents: dict[str, bytes], name: str) -> bytes:
    (path,) = (x for x in contents if x.split("/", 1)[1] == name and ".dist-info/" in x)
    return contents[path]


def test_two_packages_and_nothing_else(contents: dict[str, bytes]) -> None:
    """The wheel holds `w2v_edge`, `w2v_edge_export` and its own description."""
    tops = {name.split("/")[0] for name in contents}
    assert len(tops) == 3
    assert {top for top in tops if not top.endswith(".dist-info")} == set(ROOTS)
    weights = [name for name in contents if name.endswith(".pt")]
    assert weights == ["w2v_edge/data/tiny/tiny.pt"]
    assert not [name for name in contents if "test" in name or name.endswith(".pyc")]


@pytest.mark.parametrize("package", ROOTS)
def test_packages_are_whole(contents: dict[str, bytes], package: str) -> None:
    """The wheel has every file of both packages."""
    source = ROOTS[package]
    expected = {
        str(path.relative_to(source)): path.read_bytes()
        for path in (source / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected == {x: y for x, y in contents.items() if x.startswith(f"{package}/")}
    assert f"{package}/py.typed" in expected


def test_data_travels_with_its_licence(contents: dict[str, bytes]) -> None:
    """Target profiles and clips are there, and so are both licences, where tools look for them."""
    assert "w2v_edge_export/targets/cpu.toml" in contents
    assert "w2v_edge_export/targets/cuda.toml" in contents
    assert len([name for name in contents if name.endswith(".flac")]) == 5
    assert "w2v_edge/data/tiny/tiny-int8/manifest.json" in contents
    assert contents["w2v_edge/data/LICENSE.md"] == _info(
        contents, "licenses/w2v_edge/data/LICENSE.md"
    )
    assert _info(contents, "licenses/LICENSE") == (REPOSITORY / "LICENSE").read_bytes()


def test_the_base_needs_numpy_only(contents: dict[str, bytes]) -> None:
    """Without extras nothing but numpy is installed; each role has its extra."""
    metadata = email.message_from_bytes(_info(contents, "METADATA"))
    required = metadata.get_all("Requires-Dist", [])
    base = [line for line in required if "extra ==" not in line]
    assert len(base) == 1
    assert base[0].startswith("numpy")
    assert {"cpu", "gpu", "audio", "cli", "export"} <= set(metadata.get_all("Provides-Extra", []))
    assert metadata["Requires-Python"] == ">=3.11"
    entry = _info(contents, "entry_points.txt").decode()
    assert "w2v-edge = w2v_edge.cli:main" in entry
