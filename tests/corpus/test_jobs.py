"""Jobs in several runs: complete shards are kept, partial ones are removed."""

from __future__ import annotations

import json
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from w2v_edge.corpus import CorpusOptions, encode_corpus
from w2v_edge.corpus.entries import Entry
from w2v_edge.corpus.job import plan
from w2v_edge.corpus.worker import ATTEMPTS, JobSpec, Worker
from w2v_edge.errors import InputError, OutputExistsError

Bundle = Callable[[str], Path]
Shards = Callable[[Path], dict[str, bytes]]


@pytest.fixture(scope="module")
def whole(bundle: Bundle, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job that was done in one run."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    encode_corpus(bundle("tiny"), [recordings], folder, shard_size=4, workers=1)
    return folder


def test_workers_and_threads_change_nothing(
    bundle: Bundle, recordings: Path, whole: Path, shards: Shards, tmp_path: Path
) -> None:
    """Shards are the same to the byte, however many workers make them with however many threads."""
    options = CorpusOptions(running={"threads": 2})
    encode_corpus(
        bundle("tiny"), [recordings], tmp_path / "out", options=options, shard_size=4, workers=3
    )
    assert shards(tmp_path / "out") == shards(whole)


def test_a_run_that_is_cut_off_goes_on(
    bundle: Bundle, recordings: Path, whole: Path, shards: Shards, tmp_path: Path
) -> None:
    """After an interrupt all shards are complete, and the next run writes the rest."""

    def interrupt(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    arguments: dict[str, Any] = {"shard_size": 4, "workers": 2}
    out, expected = tmp_path / "out", shards(whole)
    with pytest.raises(KeyboardInterrupt):
        encode_corpus(bundle("tiny"), [recordings], out, show=interrupt, **arguments)
    there = shards(out)
    assert 0 < len(there) < len(expected)
    assert there.items() <= expected.items()
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    report = encode_corpus(bundle("tiny"), [recordings], out, **arguments)
    assert (report.shards, report.shards_of_this_run) == (5, 5 - len(there))
    assert (report.files, report.failed) == (20, 5)
    assert shards(out) == expected
    assert all(path.stat().st_mtime_ns == before for path, before in times.items())


def test_a_process_that_is_killed_goes_on(
    bundle: Bundle, recordings: Path, whole: Path, shards: Shards, start: Any, tmp_path: Path
) -> None:
    """After a kill, partial shards are removed and written again."""
    out = tmp_path / "out"
    arguments = (bundle("tiny"), recordings, "-o", out, "--engine", "local", "--shard-size", "4")
    process = start(*arguments, "--workers", "1")
    _wait(lambda: out.is_dir() and any(out.glob("*.parquet")))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    done = sorted(out.glob("*.parquet"))
    done[0].write_bytes(done[0].read_bytes()[:-10])
    (out / ".shard-00001.parquet.xyz.part.parquet").write_text("half")
    report = encode_corpus(bundle("tiny"), [recordings], out, shard_size=4)
    assert report.shards == 5
    assert shards(out) == shards(whole)


def test_another_job_is_refused(
    bundle: Bundle, recordings: Path, shards: Shards, tmp_path: Path
) -> None:
    """Another bundle, setting or list of files is named, and nothing is touched without force."""
    out, one = tmp_path / "out", [recordings / "good-00.flac"]
    encode_corpus(bundle("tiny"), one, out)
    before = shards(out)
    two = [*one, recordings / "good-01.flac"]
    others: dict[str, dict[str, Any]] = {
        "bundle_sha256": {"bundle": bundle("base-small")},
        "files": {"sources": two},
        "pooled": {"options": CorpusOptions(pooled=True)},
        "shard_size": {"shard_size": 7},
    }
    for word, arguments in others.items():
        given: dict[str, Any] = {"bundle": bundle("tiny"), "sources": one} | arguments
        with pytest.raises(OutputExistsError, match=f"its {word} is .* --force"):
            encode_corpus(given.pop("bundle"), given.pop("sources"), out, **given)
    assert shards(out) == before
    report = encode_corpus(bundle("tiny"), two, out, shard_size=1, force=True)
    assert (report.shards, report.shards_of_this_run) == (2, 2)
    encode_corpus(bundle("tiny"), one, out, force=True)
    assert shards(out) == before


def test_folders_that_are_no_jobs(bundle: Bundle, recordings: Path, tmp_path: Path) -> None:
    """A file, or a folder with other files, is not used as output, even with force."""
    source = [recordings / "good-00.flac"]
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").touch()
    for name, words in {"file": "is not a folder", "mine": "thesis.txt"}.items():
        for force in (False, True):
            with pytest.raises(OutputExistsError, match=words):
                encode_corpus(bundle("tiny"), source, tmp_path / name, force=force)
    for text in ("{", "{}", json.dumps({"format": "w2v-edge corpus 9"}), "[" * 100_000):
        (tmp_path / "job").mkdir(exist_ok=True)
        (tmp_path / "job/_job.json").write_text(text)
        with pytest.raises(InputError, match="not the record of a job"):
            encode_corpus(bundle("tiny"), source, tmp_path / "job")


def test_failed_files_are_tried_again_on_request(
    bundle: Bundle, recordings: Path, tmp_path: Path
) -> None:
    """A file that was mended after it failed is done when that is asked for, and only then."""
    (tmp_path / "in").mkdir()
    for name in ("a.flac", "b.flac"):
        (tmp_path / "in" / name).write_bytes((recordings / "good-00.flac").read_bytes()[:900])
    out = tmp_path / "out"
    assert encode_corpus(bundle("tiny"), [tmp_path / "in"], out, shard_size=1).failed == 2
    (tmp_path / "in/b.flac").write_bytes((recordings / "good-00.flac").read_bytes())
    assert encode_corpus(bundle("tiny"), [tmp_path / "in"], out, shard_size=1).failed == 2
    report = encode_corpus(bundle("tiny"), [tmp_path / "in"], out, shard_size=1, retry_failed=True)
    assert (report.failed, report.shards_of_this_run) == (1, 2)


def test_a_disk_that_is_full(bundle: Bundle, recordings: Path, start: Any, tmp_path: Path) -> None:
    """A full disk ends the job in one line, without partial files."""
    out = tmp_path / "out"
    limit = 1024
    process = start(
        *(bundle("tiny"), recordings / "long.flac", "-o", out, "--engine", "local"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    (line,) = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 1
    assert line.startswith("error: ")
    assert "too large" in line
    assert [path.name for path in out.iterdir()] == ["_job.json"]


def test_a_shard_that_kills_its_worker_is_left_out(bundle: Bundle, tmp_path: Path) -> None:
    """An attempt that never ended counts; after some, the shard is not tried again."""
    (shard,) = plan([Entry("a", "/a")], 1)
    (tmp_path / "out").mkdir()
    for _ in range(ATTEMPTS):
        worker = Worker(JobSpec(bundle("tiny"), CorpusOptions(), str(tmp_path / "out")))
        assert worker.attempt(shard).__enter__() is shard
    with worker.attempt(shard) as given:
        assert given is None
    (other,) = plan([Entry("b", "/b")] * 2, 1)[1:]
    for _ in range(2 * ATTEMPTS):
        with worker.attempt(other) as given:
            assert given is other


def _wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
