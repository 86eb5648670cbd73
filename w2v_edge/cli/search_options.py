"""The options of a beam search, which `transcribe` and `stream` share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.cli.options import list_option

if TYPE_CHECKING:
    from w2v_edge.runtime.model import Model
    from w2v_edge.text.beam_search import BeamSearch

NAMES = ("lm", "alpha", "beta", "beam_width", "hotwords", "hotword_weight")

BUNDLE = "bundle"
"""The bundle's own language model; a file of this name is `./bundle`."""

lm_option = click.option(
    "--lm",
    type=click.Path(),
    metavar=f"FILE|{BUNDLE}",
    help="KenLM language model, .arpa or .bin; bundle for the one that w2v-edge export --with-lm "
    "put into BUNDLE.",
)
alpha_option = click.option(
    "--alpha",
    type=float,
    show_default="0.5; the bundle's for --lm bundle",
    help="Weight of the language model.",
)
beta_option = click.option(
    "--beta",
    type=float,
    show_default="1.5; the bundle's for --lm bundle",
    help="Bonus per word.",
)
beam_width_option = click.option(
    "--beam-width",
    type=click.IntRange(min=1),
    show_default="100 with another option of beam search, else greedy decoding",
    help="Beam width.",
)
hotwords_option = list_option(
    "--hotwords", of=click.STRING, help="Words that are expected, such as names: anna,brno."
)
hotword_weight_option = click.option(
    "--hotword-weight", type=float, show_default="10", help="Bonus for each hotword, in nats."
)


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options of a beam search; the command gets those that were given as a dict, `search`.

    It is empty for greedy decoding.
    """

    @wraps(command)
    def collected(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in NAMES}
        given["hotwords"] = given["hotwords"] or None
        search = {name: value for name, value in given.items() if value is not None}
        if "lm" not in search and search.keys() & {"alpha", "beta"}:
            raise click.UsageError("--alpha and --beta need --lm.")
        if "hotword_weight" in search and "hotwords" not in search:
            raise click.UsageError("--hotword-weight needs --hotwords.")
        return command(*arguments, search=search, **options)

    added = beam_width_option(hotwords_option(hotword_weight_option(collected)))
    return lm_option(alpha_option(beta_option(added)))


def beam_search(model: Model, search: dict[str, Any]) -> BeamSearch | None:
    """Return the beam search that was asked for, or None for greedy decoding."""
    if not search:
        return None
    from w2v_edge.text.beam_search import BeamSearch
    from w2v_edge.text.language_model import silent_kenlm

    if search.get("lm") == BUNDLE:
        search = search | {"lm": model.language_model}
    with silent_kenlm():
        return BeamSearch(model.spelling, **search)
