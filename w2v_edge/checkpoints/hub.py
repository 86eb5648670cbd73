"""Models on the Hugging Face Hub, by name; its cache and its offline mode are honoured."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
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
        and not Path(source.partition("@")[0]).exists()
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
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("reading a model of the Hub", "huggingface_hub", "hub") from error
    hub = _Hub(*source.partition("@")[::2])
    try:
        with _quiet():
            return hub.folder(language)
    except CheckpointError:
        raise
    except Exception as error:
        # Whatever the network, the Hub or its library have to say, the user wants one line.
        raise CheckpointError(
            f"{source}: not to be had from the Hugging Face Hub: {_reason(error)}; check the name "
            "and the network, or give a folder"
        ) from error


@dataclass(frozen=True)
class _Hub:
    """One model on the Hub, at a revision or, if that is empty, its latest."""

    name: str
    revision: str

    def folder(self, language: str | None) -> Path:
        """Fetch what a model is made from; return the folder it lies in."""
        folder = self.fetch(CONFIG).parent
        for file in JSON_FILES[1:]:
            self.fetch_if_there(file)
        self.fetch_weights()
        for pattern in ADAPTERS if language is not None else ():
            if self.fetch_if_there(pattern.format(language)):
                break
        return folder

    def fetch(self, file: str) -> Path:
        """Return a file's path in the cache, fetched if it is not there yet."""
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(self.name, file, revision=self.revision or None))

    def fetch_if_there(self, file: str) -> Path | None:
        """Return the same, or None for a file that the model does not have."""
        from huggingface_hub import constants
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return self.fetch(file)
        except LocalEntryNotFoundError:
            # Offline by choice, the cache is all there is; else, not to be reached is not to be
            # absent, unless the Hub itself has said so before.
            if constants.HF_HUB_OFFLINE or self.known_absent(file):
                return None
            raise
        except EntryNotFoundError:
            return None

    def known_absent(self, file: str) -> bool:
        """Tell whether the Hub itself said that there is no such file; the cache keeps that."""
        from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

        found = try_to_load_from_cache(self.name, file, revision=self.revision or None)
        return found is _CACHED_NO_EXIST

    def fetch_weights(self) -> None:
        """Fetch the weights, with all their shards."""
        for file in (SAFETENSORS, BIN):
            if self.fetch_if_there(file):
                return
            index = self.fetch_if_there(f"{file}.index.json")
            if index:
                for shard in sorted(set(read_json(index).get("weight_map", {}).values())):
                    self.fetch(shard)
                return
        raise CheckpointError(
            f"{self.name}: expected weights, {SAFETENSORS} or {BIN}, found neither"
        )


REASONS = {
    "LocalEntryNotFoundError": (
        "it cannot be reached, and the cache does not have all of the model (HF_HUB_OFFLINE=1 "
        "takes what it has)"
    ),
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
