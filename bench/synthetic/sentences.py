"""Sentences to read aloud: WordNet's examples, verses, and commands made from templates.

    python -m bench.synthetic.sentences /usr/share/wordnet web.txt -o sentences.tsv

WordNet 3.0 (Debian's `wordnet-base`) may be used for any purpose under Princeton's licence. The
World English Bible (`sword-text-web`, printed by `diatheke`) is in the public domain. Templates
make what such texts lack: numbers, dates and commands to a machine.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from bench.tiny.prompts import normalised

SHORTEST, LONGEST = 12, 75
"""Characters of a sentence: one to seven seconds of speech."""

SHARES = {"wordnet": 0.55, "verses": 0.30, "commands": 0.15}

SMALL = "zero one two three four five six seven eight nine ten eleven twelve".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November".split()
VERBS = (
    "call open close start stop check change cancel confirm delete save play repeat hear leave "
    "send receive move find answer join mute transfer enter dial choose select"
).split()
THINGS = (
    "the message|your account|this number|the meeting|the front door|your calendar|the next song|"
    "a new list|the weather|the lights|an order|your office|the station|the doctor|this call|"
    "the operator|the password|your name|the conference|the mailbox|the recording|the system|"
    "a greeting|the caller|the queue"
).split("|")
COMMANDS = (
    "to {verb} {thing} press {number}",
    "please {verb} {thing} and {verb} {thing}",
    "the number is {digit} {digit} {digit} {digit} {digit}",
    "{day} {month} {number} at {digit} o'clock",
    "I am sorry, I could not {verb} {thing}",
    "there are {number} new messages and {number} old ones",
    "would you like to {verb} {thing} or {verb} {thing}",
    "{verb} {thing} now",
)


def wordnet(folder: Path) -> Iterator[str]:
    """Yield the examples in quotes of WordNet's data files that have three words or more."""
    for path in sorted(folder.glob("data.*")):
        for line in path.read_text("latin-1").splitlines():
            # The licence is indented.
            if not line.startswith("  "):
                examples = re.findall(r'"([^"]+)"', line.partition("|")[2])
                yield from (x for x in examples if len(x.split()) >= 3)


def verses(text: str) -> Iterator[str]:
    """Yield the sentences of lines such as `Genesis 1:1: In <H0430> the`, the long in parts."""
    for line in text.splitlines():
        verse = re.sub(r"<[^>]*>", "", re.sub(r"^[^:]*\d+:\d+:", "", line))
        plain = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(verse.split()))
        for sentence in re.split(r"(?<=[.!?;:])\W*\s+", plain):
            long = len(sentence) > LONGEST
            yield from re.split(r"(?<=,)\s+", sentence) if long else [sentence]


def commands(count: int, rng: random.Random) -> Iterator[str]:
    """Yield sentences made from templates; some are alike."""
    for _ in range(count):
        yield re.sub(r"{(\w+)}", lambda x: _word(x.group(1), rng), rng.choice(COMMANDS))


def mixed(sources: Mapping[str, Iterable[str]], rng: random.Random) -> Iterator[str]:
    """Yield distinct sentences that can be spelled in letters, by `SHARES`, until a source ends."""
    seen: set[str] = set()
    left: dict[str, list[str]] = {}
    for name, source in sources.items():
        left[name] = [x for x in source if readable(x)]
        rng.shuffle(left[name])
    while all(left.values()):
        (name,) = rng.choices(list(left), [SHARES[x] for x in left])
        sentence = left[name].pop()
        if normalised(sentence) not in seen:
            seen.add(normalised(sentence))
            yield " ".join(sentence.split())


def readable(sentence: str) -> bool:
    """Whether a sentence has a fit length, and nothing that is spelled other than it is said."""
    spelled = normalised(sentence)
    fits = SHORTEST <= len(spelled) <= LONGEST
    return fits and not re.search(r"[^a-z' ]|(.)\1\1", spelled) and "_" not in sentence


def _word(kind: str, rng: random.Random) -> str:
    if kind == "number":
        return f"{rng.choice(TENS)} {rng.choice(SMALL[1:10])}" if rng.random() < 0.5 else "ten"
    kinds = {"verb": VERBS, "thing": THINGS, "digit": SMALL, "day": DAYS, "month": MONTHS}
    return rng.choice(kinds[kind])


def main() -> None:
    """Write the column `text`."""
    parser = argparse.ArgumentParser(prog="python -m bench.synthetic.sentences")
    parser.add_argument("wordnet", type=Path, help="folder of data.noun and others")
    parser.add_argument("verses", type=Path, help="text of diatheke -b engWEB2015eb -f plain")
    parser.add_argument("--commands", type=int, default=10_000, help="default: 10000")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    rng = random.Random(0)  # noqa: S311
    sources: dict[str, Iterable[str]] = {
        "wordnet": wordnet(given.wordnet),
        "verses": verses(given.verses.read_text("utf-8")),
        "commands": commands(given.commands, rng),
    }
    lines = chain(["text"], mixed(sources, rng))
    given.output.write_text("".join(f"{line}\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main()
