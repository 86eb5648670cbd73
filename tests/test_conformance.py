"""The matrix of conformance: its list, its rows, and what the tests compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.conformance import LIST, RESULTS, check, markdown, read_list, rows_of_tests, write
from tests.checkpoints.conftest import MODELS

PROPERTY = """<testsuites><testsuite>
<testcase name="a"><properties><property name="conformance" value='{}'/></properties></testcase>
<testcase name="b"><properties><property name="conformance" value='{}'/></properties></testcase>
<testcase name="c"><properties><property name="other" value="1"/></properties></testcase>
</testsuite></testsuites>"""


def test_the_list_of_published_checkpoints() -> None:
    """Each entry is a name on the Hub, once for each use."""
    entries = read_list(LIST)
    assert len(entries) > 80
    assert len({(group, name) for group, name, _ in entries}) == len(entries)
    for _, name, options in entries:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", name)
        assert all(x.startswith("--") for x in options[::2] if not x.isdigit())


@pytest.mark.usefixtures("ctc_bundle")
def test_a_checkpoint_and_a_broken_one(
    shared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is exported and compared with transformers; a broken one has its error as a row."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 1.0)
    row = check("group", str(shared_folder / "checkpoints/ctc"), [])
    assert (row.reference, row.comparisons, row.problem) == ("transformers", 2, "")
    assert row.deviation is not None
    assert 0 < row.deviation < 1e-4
    broken = check("group", str(tmp_path), [])
    assert broken.deviation is None
    assert "config.json" in broken.problem
    write([row, broken], tmp_path / "made.json")
    table = (tmp_path / "made.md").read_text()
    assert table == markdown(json.loads((tmp_path / "made.json").read_text()))
    assert f"| group | transformers | 2 | {row.deviation:.1e} |" in table
    assert "config.json" in table


def test_rows_of_tests(tmp_path: Path) -> None:
    """What the tests recorded is summed up by class and layout, with the worst deviation."""
    rows = [
        {"classes": ["HubertModel"], "layout": "folder", "outputs": 3, "deviation": x}
        for x in (2e-6, 5e-6)
    ]
    report = tmp_path / "report.xml"
    report.write_text(PROPERTY.format(*map(json.dumps, rows)))
    (row,) = rows_of_tests(report)
    assert (row.model, row.layout, row.comparisons, row.deviation) == (
        "HubertModel",
        "folder",
        6,
        5e-6,
    )


def test_the_matrix_has_every_class() -> None:
    """Every class of transformers that the tests build has a line in the published matrix."""
    published = json.loads((RESULTS / "conformance-tests.json").read_text())
    assert {cls for cls, _ in MODELS.values()} <= {row["model"] for row in published["rows"]}
    assert all(row["deviation"] < 1e-4 for row in published["rows"])
