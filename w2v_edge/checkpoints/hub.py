"""Models on the Hugging Face Hub, by name; its cache and its offline mode are honoured."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from w2v_edge.checkpoints.huggingface.folder import ADAPTERS, JSON_FILES
from w2v_edge.checkpoints.huggingface.settings import CONFIG
from w2v_edge.checkpoints.tensors import BIN, SAFETENSORS, read_json
from w2v_edge.errors import CheckpointError, MissingExtraError

NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""`owner/model`, or `owner/model@revision`."""

FILE_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".json", ".onnx")


def is_hub_name(source: str) -> bool:
    """Tell whether `source` reads like a model on the Hub, and not like a path."""
    return (
        NAME.fullmatch(source) is not None
        and not source.endswith(FILE_ENDINGS)
        and not source.startswith(".")
        and not Path(source.split("/", maxsplit=1)[0]).exists()
    )


def download(source: str, language: str | None = None) -> Path:
    """Return the folder of a model's files, fetched where they are not in the cache.

    Args:
        source: `owner/model` or `owner/model@revision`.
        language: whose adapter is wanted too.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        CheckpointError: no such model, no network and not in the cache, or no access.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtraError("reading a model of the Hub", "huggingface_hub", "hub") from error
    name, _, revision = source.partition("@")

    def fetch(file: str) -> Path:
        return Path(hf_hub_download(name, file, revision=revision or None))

    def fetch_if_there(file: str) -> Path | None:
        try:
            return fetch(file)
        except (EntryNotFoundError, LocalEntryNotFoundError):
            return None

    try:
        with _quiet():
            folder = fetch(CONFIG).parent
            for file in JSON_FILES[1:]:
                fetch_if_there(file)
            _fetch_weights(source, fetch, fetch_if_there)
            for pattern in ADAPTERS if language is not None else ():
                if fetch_if_there(pattern.format(language)):
                    break
    except CheckpointError:
        raise
    except Exception as error:
        # Whatever the network, the Hub or its library have to say, the user wants one line.
        raise CheckpointError(
            f"{source}: not to be had from the Hugging Face Hub: {_reason(error)}; check the name "
            "and the network, or give a folder"
        ) from error
    return folder


def _fetch_weights(
    source: str, fetch: Callable[[str], Path], fetch_if_there: Callable[[str], Path | None]
) -> None:
    for file in (SAFETENSORS, BIN):
        if fetch_if_there(file):
            return
        index = fetch_if_there(f"{file}.index.json")
        if index:
            for shard in sorted(set(read_json(index).get("weight_map", {}).values())):
                fetch(shard)
            return
    raise CheckpointError(f"{source}: expected weights, {SAFETENSORS} or {BIN}, found neither")


REASONS = {
    "LocalEntryNotFoundError": "it cannot be reached, and the model is not in the cache",
    "GatedRepoError": "access to the model must be asked for on its page (then: hf auth login)",
    "RepositoryNotFoundError": "no such model, or a private one (then: hf auth login)",
    "RevisionNotFoundError": "no such revision",
    "EntryNotFoundError": f"no {CONFIG} in it",
    "RemoteEntryNotFoundError": f"no {CONFIG} in it",
}
"""What the library's errors come to, by class."""


def _reason(error: Exception) -> str:
    names = [kind.__name__ for kind in type(error).__mro__]
    known = (REASONS[name] for name in names if name in REASONS)
    line = (str(error).split("\n", maxsplit=1)[0] or names[0]).strip()
    return next(known, f"{line:.120}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's remarks on its retries off the user's terminal."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
