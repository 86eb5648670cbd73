"""Wheels for a device: tags of its system, requirements, and the wheel of this package."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from w2v_edge.errors import RemoteError
from w2v_edge.remote.environment import own_wheel, platforms, requirements, unpacked_size

PI: dict[str, Any] = {
    "system": "Linux",
    "machine": "aarch64",
    "bits": 64,
    "libc": "glibc",
    "libc_version": "2.31",
    "macos": "",
    "python": "3.11.2",
    "implementation": "CPython",
    "abi_flags": "",
}


def test_tags_of_a_device() -> None:
    """Wheels for older C libraries run there, the newest tag comes first, and no newer one."""
    tags = platforms(PI)
    assert tags[0] == "manylinux_2_31_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux2014_aarch64"} < set(tags)
    assert "manylinux_2_32_aarch64" not in tags
    assert platforms(PI | {"libc": "musl"})[0] == "musllinux_1_2_aarch64"
    mac = platforms(PI | {"system": "Darwin", "machine": "arm64", "macos": "14.2"})
    assert mac[0] == "macosx_14_0_arm64"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bits": 32, "machine": "armv7l"}, "32-bit Python on armv7l"),
        ({"system": "Android", "libc": ""}, "found Android"),
        ({"implementation": "PyPy"}, "found PyPy"),
        ({"libc": "", "libc_version": ""}, "C library of an unknown kind"),
    ],
)
def test_devices_without_wheels_are_named(changes: dict[str, Any], words: str) -> None:
    """The message says which kind it is, and the way out."""
    with pytest.raises(RemoteError, match=words) as found:
        platforms(PI | changes)
    assert "--use PYTHON" in str(found.value)


def test_requirements_are_those_of_the_extras() -> None:
    """Nothing but numpy, onnxruntime and the command line's packages goes to a device."""
    names = {x.split(">")[0] for x in requirements(("cpu", "cli"))}
    assert {"numpy", "onnxruntime", "click", "rich", "psutil"} <= names
    assert not {"torch", "onnx", "pyarrow", "onnxruntime-gpu"} & names


def test_the_own_wheel_is_the_same_each_time(tmp_path: Path) -> None:
    """It has the package with its recordings, and not the trained model that ships."""
    one, two = own_wheel(tmp_path / "a"), own_wheel(tmp_path / "b")
    assert one.read_bytes() == two.read_bytes()
    names = zipfile.ZipFile(one).namelist()
    assert "w2v_edge/remote/agent.py" in names
    assert "w2v_edge/data/en-activated.flac" in names
    assert any(x.endswith(".dist-info/METADATA") for x in names)
    assert not any("tiny.pt" in x or "__pycache__" in x for x in names)
    assert unpacked_size([one]) > one.stat().st_size
