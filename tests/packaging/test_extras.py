"""Extras: the commands that install them, in errors as in the documentation."""

from __future__ import annotations

import json
import shlex
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from w2v_edge import extras
from w2v_edge.cli.output import EXTRAS, named
from w2v_edge.extras import install_command, with_commands

ROOT = Path(__file__).parents[2]
BUILDS = {"gpu", "openvino"}
"""Extras that replace `cpu`."""


class _Installed:
    """A distribution with the record that pip keeps of where it came from."""

    def __init__(self, origin: object) -> None:
        self.origin = None if origin is None else json.dumps(origin)

    def read_text(self, _: str) -> str | None:
        return self.origin


def test_a_checkout_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the files of a checkout run, the command installs that checkout, from any folder."""
    monkeypatch.chdir(ROOT)
    assert install_command("cpu", "cli") == "pip install -e '.[cpu,cli]'"
    monkeypatch.chdir(tmp_path)
    assert install_command("cpu") == f"pip install -e '{ROOT}[cpu]'"


@pytest.mark.parametrize("origin", ["index", "archive", "folder", "folder that is gone"])
def test_an_installed_package(origin: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The name of the package, or the folder that it was copied from as long as that is there."""
    source = tmp_path / "a folder"
    source.mkdir()
    if origin == "folder":
        (source / "pyproject.toml").touch()
    folder = {"dir_info": {}, "url": source.as_uri()}
    archive = {"archive_info": {}, "url": (tmp_path / "x.whl").as_uri()}
    record = {"index": None, "archive": archive}.get(origin, folder)
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "site-packages/w2v_edge/extras.py"))
    monkeypatch.setattr(metadata, "distribution", lambda _: _Installed(record))
    name = source if origin == "folder" else "w2v-edge"
    assert install_command("lm") == f"pip install '{name}[lm]'"


@pytest.mark.parametrize("record", [[], {"dir_info": {}}, {"dir_info": {}, "url": 3}])
def test_a_damaged_record(record: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What pip's record does not say is left out, also where no folder is left to stand in."""
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "site-packages/w2v_edge/extras.py"))
    monkeypatch.setattr(metadata, "distribution", lambda _: _Installed(record))
    assert install_command("lm") == "pip install 'w2v-edge[lm]'"


def test_a_folder_that_is_gone_or_has_an_apostrophe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A command can be copied as it stands."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert install_command("cpu") == f"pip install -e '{ROOT}[cpu]'"
    monkeypatch.chdir(ROOT)
    checkout = tmp_path / "it's"
    (checkout / "export").mkdir(parents=True)
    (checkout / "pyproject.toml").touch()
    monkeypatch.setattr(extras, "__file__", str(checkout / "w2v_edge/extras.py"))
    assert shlex.split(install_command("cpu"))[-1] == f"{checkout}[cpu]"


def test_instructions_have_commands() -> None:
    """`{EXTRA}` in an instruction becomes the command of that extra."""
    assert with_commands("first {gpu}, then") == f"first {install_command('gpu')}, then"


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (("cpu", "audio"), "cpu,cli"),
        (("cpu", "audio", "cli"), "cpu,cli"),
        (("export", "cpu"), "export,cpu"),
        (("audio", "train"), "export,cpu,train"),
        (("corpus",), "cpu,cli,corpus"),
        (("mlperf",), "mlperf"),
    ],
)
def test_errors_name_extras_as_the_documentation_does(
    missing: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verb's error names all extras of the page about it; no second build of onnxruntime."""
    assert ",".join(named(*missing)) == expected
    assert any(f'w2v-edge[{expected}]"' in page.read_text() for page in ROOT.glob("docs/*.md"))
    monkeypatch.setattr("w2v_edge.cli.output.installed_wheels", lambda: ["onnxruntime-gpu"])
    assert named(*missing) == [x for x in expected.split(",") if x != "cpu"]


def test_every_extra_is_known() -> None:
    """`doctor` and errors know each extra of the package."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(declared["optional-dependencies"]) - BUILDS
