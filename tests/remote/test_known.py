"""Devices are remembered with what they were when they were last reached."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from w2v_edge.remote.agent import facts
from w2v_edge.remote.known import known_path, remember

Verb = Callable[..., Any]


def test_devices_are_listed(w2v_edge: Verb) -> None:
    """Each name once, with its last facts, also when several are reached at the same time."""
    assert w2v_edge("devices").code == 0
    found = facts()
    remember("pi4", found | {"processor": "old"})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: remember(name, found), ("pi4", "pi5", "jetson")))
    devices = w2v_edge("devices", "--json").json
    assert devices.keys() == {"pi4", "pi5", "jetson"}
    assert devices["pi4"]["processor"] == found["processor"]
    assert "jetson" in w2v_edge("devices").out


def test_a_damaged_file_is_named_and_kept(w2v_edge: Verb, refused: Any) -> None:
    """Nothing that a user could still read is overwritten."""
    path = known_path()
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"format": "w2v-edge-devices"')
    remember("pi4", facts())
    refused(w2v_edge("devices"), 1, str(path), "remove it")
    assert path.read_text() == '{"format": "w2v-edge-devices"'
