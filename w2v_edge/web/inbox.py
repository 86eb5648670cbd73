"""The folder of reports that devices sent: validated, never overwritten."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from pathlib import Path

from w2v_edge.errors import OutputExistsError
from w2v_edge.files import replacing
from w2v_edge.latency.report.files import parse_report, to_json
from w2v_edge.latency.report.records import BenchmarkReport

MAX_REPORT_BYTES = 2**22
"""Maximum size of a report: a page's has some 100 kB."""


class Inbox:
    """A folder of reports.

    Args:
        folder: the folder; the first report makes it.

    Raises:
        OutputExistsError: `folder` is not a folder.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise OutputExistsError(f"{folder} is not a folder; choose another one for reports")
        self.folder = folder

    def add(self, content: bytes) -> tuple[Path, BenchmarkReport]:
        """Validate a report, complete it and write it as a new file.

        Args:
            content: JSON.

        Returns:
            The file, named by date and device, and the completed report.

        Raises:
            InputError: it is not a report, or has impossible figures.
            OSError: it cannot be written.
        """
        report = parse_report(content, "the report")
        text = to_json(report)
        path = self._new(report.device.cpu.model)
        try:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return path, report

    def _new(self, device: str) -> Path:
        """Make an empty file with a new name, so that no other report gets the name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        words = re.sub(r"[^a-z0-9]+", "-", device.lower())[:40].strip("-") or "device"
        stem = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{words}"
        for number in itertools.count(1):
            path = self.folder / (f"{stem}-{number}.json" if number > 1 else f"{stem}.json")
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                continue
            return path
        raise AssertionError
