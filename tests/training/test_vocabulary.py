"""Vocabularies: normalised texts, encoded as labels and decoded."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v_edge.errors import ConfigError
from w2v_edge.model.head_config import CtcHeadConfig
from w2v_edge.text.text_form import TextForm
from w2v_edge.training.vocabulary import Vocabulary, head_for

normalise = TextForm().normalise


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=40))
def test_normalisation_is_idempotent(text: str) -> None:
    """Normalised texts have no punctuation and no double spaces."""
    once = normalise(text)
    assert normalise(once) == once
    assert once == " ".join(once.split())
    assert not set(once) & set('.,;:!?"()-_\n\t')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don\u2019t  stop!", "don't stop"),
        ("'Tis \u201cthe\u201d end'", "tis the end"),
        ("Ça, c'est déjà l'été.", "ça c'est déjà l'été"),
        ("e\u0301te\u0301", "été"),
        ("press 1-2-3", "press 1 2 3"),
        ("STRASSE\u00ad Straße", "strasse straße"),
        ("?!", ""),
        ("नमस्ते दुनिया", "नमस्ते दुनिया"),
        ("কি'রে 'কি'", "কি'রে কি"),
        ("'\u0301a' \u0301", "a"),
        ("İstanbul", "istanbul"),
        ("ΛΟΓΟΣ", "λογος"),
        ("ﬁne №5", "fine no5"),
    ],
)
def test_texts_are_normalised(text: str, expected: str) -> None:
    """Accents, digits and apostrophes within words are kept; other characters are not."""
    assert normalise(text) == expected


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_decoding_inverts_encoding(texts: list[str]) -> None:
    """Every text is decoded from the labels of its characters, doubled letters included."""
    spoken = [x for x in map(normalise, texts) if x]
    vocabulary = Vocabulary(head_for(spoken))
    assert not vocabulary.missing(spoken)
    for text in spoken:
        labels = vocabulary.encode(text)
        path = [x for label in labels for x in (label, 0)]
        logits = np.full((len(path), vocabulary.head.size), -10.0, np.float32)
        logits[np.arange(len(path)), path] = 10.0
        assert vocabulary.decode(logits) == text


def _cased() -> Vocabulary:
    labels = ("<pad>", "<s>", "</s>", "<unk>", "|", "A", "B", "a", "É")
    return Vocabulary(CtcHeadConfig(len(labels), labels, 0, "|", labels[:4]))


def test_upper_case_labels_encode_lower_case_texts() -> None:
    """Lower-case labels come first; other characters are unknown; a space is the delimiter."""
    assert _cased().encode("ab éz") == [7, 6, 4, 8, 3]
    assert _cased().missing(["ab é", "z y"]) == ["y", "z"]


def test_characters_without_a_label_are_named() -> None:
    """The error names the option; a vocabulary without letters is refused."""
    with pytest.raises(ConfigError, match=r"lacks 2 characters of the texts: y z; .*--new-voc"):
        _cased().check_covers(["a z", "y"])
    _cased().check_covers(["ab é"])
    nameless = CtcHeadConfig(5, (), 0, "|", ())
    with pytest.raises(ConfigError, match="no labels, expected letters"):
        Vocabulary(nameless).check_covers(["a"])


def _vocabulary(*letters: str, delimiter: str | None = "|") -> Vocabulary:
    labels = ("<pad>", "<unk>", *([delimiter] if delimiter else []), *letters)
    return Vocabulary(CtcHeadConfig(len(labels), labels, 0, delimiter, ("<pad>", "<unk>")))


def _decoded(vocabulary: Vocabulary, text: str) -> str:
    """The transcript of a model that hears the labels of a text."""
    path = [x for label in vocabulary.encode(text) for x in (label, 0)]
    logits = np.full((len(path), vocabulary.head.size), -10.0, np.float32)
    logits[np.arange(len(path)), path] = 10.0
    return vocabulary.decode(logits)


LATIN = "abcdefghijklmnopqrstuvwxyz"
GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
JAMO = "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎㄲㄸㅃㅆㅉㅏㅑㅓㅕㅗㅛㅜㅠㅡㅣㅐㅔㅘㅝ"
CONJOINING = [
    *map(chr, range(0x1100, 0x1113)),
    *map(chr, range(0x1161, 0x1176)),
    *map(chr, range(0x11A8, 0x11C3)),
]
ALPHABETS: dict[str, tuple[list[str], list[str]]] = {
    # Labels, and the syllables that texts are made of; empty for the labels themselves.
    "Latin": ([*LATIN, *"äöüßéà"], []),
    "both cases": ([*LATIN, *LATIN.upper(), *"äöüÄÖÜß"], []),
    "capitals": ([*LATIN.upper(), *"ÄÖÜÉ"], []),
    "Turkish": ([*"abcçdefgğh\u0131ijklmnoöprsştuüvyz"], []),
    "Turkish capitals": ([*"ABCÇDEFGĞHI\u0130JKLMNOÖPRSŞTUÜVYZ"], []),
    "Greek": ([*GREEK, *"άέήίόύώς"], []),
    "Greek capitals": ([*GREEK.upper()], []),
    "Vietnamese letters": ([*LATIN, *"ăâđêôơưếềểễệấặộợữự"], []),
    "Vietnamese tones": (
        [*LATIN, *"ăâđêôơư", *"\u0300\u0301\u0303\u0309\u0323"],
        [v + tone for v in "aăâeêioôơuưy" for tone in "\u0300\u0301\u0303\u0309\u0323"],
    ),
    "accents apart": ([*LATIN, *"\u0301\u0302\u0323"], ["e\u0323\u0302", "e\u0301", "o", "\u1ed9"]),
    "Hindi": ([*"अआकखगड़ढ़क़जझटठडढण", "\u093c", *"ािीुूे्ं"], ["क", "का", "ड़ी", "ढ\u093cि", "क्क"]),
    "Hindi with nukta letters": (["क", "\u0958", "\u095c", *"ाि"], ["क", "\u0958ा", "ड\u093cि"]),
    "Bengali": (["য", "\u09df", "ড", "\u09dc", *"ািে"], ["\u09dfা", "য\u09bcে", "ড\u09bc", "য"]),
    "Korean letters": ([*JAMO], []),
    "Korean syllables of letters": ([*JAMO], ["한", "가", "국", "어", "까", "와"]),
    "Korean conjoining letters": (CONJOINING, ["한", "가", "값", "어", "까", "와", "읽"]),
    "Korean syllables": (["한", "국", "어", "가", "값"], []),
    "Hebrew": ([*"אבגדהוזחטיכלמנסעפצקרשתםןףץך"], []),
    "Hebrew with points": (
        [*"אבגדהושלם", "\ufb2a", *"\u05b8\u05b9\u05bc"],
        ["\u05e9\u05c1\u05b8", "ל", "\u05d5\u05b9", "ם"],
    ),
    "Arabic": ([*"ابتثجحخدذرزسشصضطظعغفقكلمنهويىةءآأؤإئ"], []),
    "Arabic with vowels": (
        [*"بسلم", *"\u064e\u064f\u0651"],
        ["ب\u064e", "س\u0651\u064e", "ل", "م\u064f\u0651"],
    ),
    "Persian": ([*"ابپمیخهو", "\u200c"], ["می\u200cخ", "\u0647\u0627", "به"]),
    "Sinhala": ([*"කරශීන්", "\u200d"], ["ශ්\u200dරී", "න"]),
    "Thai": ([*"กขคงนมดอ", *"ะาิีุูเแ", *"\u0e48\u0e49"], ["กุ\u0e48", "น\u0e49า", "มี"]),
    "several characters": ([*LATIN, "sch", "th", "ch", "qu"], []),
    "punctuation": ([*LATIN, *".,?!-"], []),
    "apostrophes": ([*LATIN, "'"], ["l'eau", "don't", "a"]),
    "old marks": (["a", "b", "\u2019", "№", "ﬁ"], ["a\u2019b", "№", "aﬁ"]),
}


@pytest.mark.parametrize("alphabet", ALPHABETS)
@settings(deadline=None, max_examples=20)
@given(choice=st.data())
def test_texts_made_of_labels_are_spelled_back(alphabet: str, choice: st.DataObject) -> None:
    """What labels spell is encoded, and decoded again, canonically the same."""
    labels, syllables = ALPHABETS[alphabet]
    vocabulary = _vocabulary(*labels)
    word = st.lists(st.sampled_from(syllables or labels), min_size=1, max_size=6).map("".join)
    text = " ".join(choice.draw(st.lists(word, min_size=1, max_size=3)))
    assert not vocabulary.missing([text])
    back = _decoded(vocabulary, text)
    assert back == vocabulary.spell(text)
    assert _same(back) == _same(text)
    for other in ("NFC", "NFD"):
        assert vocabulary.encode(unicodedata.normalize(other, text)) == vocabulary.encode(text)


def _same(text: str) -> str:
    """A text without differences that labels need not make: compatibility, and Korean letters."""
    made = []
    for char in unicodedata.normalize("NFKD", text):
        name = unicodedata.name(char)
        first = name.replace("HANGUL JONGSEONG", "HANGUL CHOSEONG")
        made.append(char if first == name else unicodedata.lookup(first))
    return "".join(made)


def _spelled(vocabulary: Vocabulary, text: str) -> list[str]:
    written = vocabulary.form.normalise(text)
    assert not vocabulary.missing([written])
    return [vocabulary.head.labels[i] for i in vocabulary.encode(written)]


@pytest.mark.parametrize(
    ("letters", "text", "expected"),
    [
        # Bengali letters with a nukta have two encodings, and NFKC has the longer one.
        ("\u09af \u09bc \u09df \u09be", "\u09df\u09be", "\u09df \u09be"),
        ("\u09af \u09bc \u09df \u09be", "\u09af\u09bc\u09be", "\u09df \u09be"),
        ("\u09af \u09df \u09be", "\u09df\u09be", "\u09df \u09be"),
        ("\u09af \u09bc \u09be", "\u09df\u09be", "\u09af \u09bc \u09be"),
        ("\u0915 \u0958", "\u0958\u0915", "\u0958 \u0915"),
        # Latin letters, composed and decomposed.
        ("e é", "e\u0301e", "é e"),
        ("e \u0301", "é", "e \u0301"),
        # Korean letters, one by one or in syllables, with those at the end of a syllable.
        ("ㄱ ㅎ ㅏ ㄴ", "ㅎㅏㄴ", "ㅎ ㅏ ㄴ"),
        ("ㄱ ㅎ ㅏ ㄴ", "한가", "ㅎ ㅏ ㄴ ㄱ ㅏ"),
        ("한 가", "한가", "한 가"),
        # Labels of several characters, the longest first.
        ("s c h sch a", "schas", "sch a s"),
        ("t h th e", "the", "th e"),
        # Format characters and punctuation that the labels hold.
        ("م ی \u200c خ", "می\u200cخ", "م ی \u200c خ"),
        ("م ی خ", "می\u200cخ", "م ی خ"),
        ("a b - .", "a-b.", "a - b ."),
        ("a b", "a-b.", "a | b"),
        ("a b \u2019", "a\u2019b", "a \u2019 b"),
        ("a b '", "a\u2019b", "a ' b"),
        # Case, where the labels hold both.
        ("a b A B", "Ab aB", "A b | a B"),
        ("A B", "Ab", "A B"),
        ("a b A B ß", "ẞ aß", "ß | a ß"),
    ],
)
def test_texts_are_compared_in_the_form_of_the_labels(
    letters: str, text: str, expected: str
) -> None:
    """Whatever the labels hold is found in a text, in either of its encodings."""
    assert _spelled(_vocabulary(*letters.split()), text) == expected.split()


def test_pieces_of_words_encode_words() -> None:
    """Pieces that begin a word begin it, and spell it back."""
    vocabulary = _vocabulary("▁he", "llo", "▁all", "▁", "h", delimiter=None)
    labels = _spelled(vocabulary, "Hello, all h")
    assert labels == ["▁he", "llo", "▁all", "▁", "h"]
    path = [x for label in vocabulary.encode("hello all h") for x in (label, 0)]
    logits = np.full((len(path), vocabulary.head.size), -10.0, np.float32)
    logits[np.arange(len(path)), path] = 10.0
    assert vocabulary.decode(logits) == "hello all h"


def test_what_no_label_spells_is_named_whole() -> None:
    """A letter is named with its accent, and what is dropped is counted."""
    vocabulary = _vocabulary("e", "x")
    assert vocabulary.missing([vocabulary.form.normalise("éxe")]) == ["é"]
    assert vocabulary.form.dropped("e, x! e,\u200d") == {",": 2, "!": 1, "\u200d": 1}
    assert not _vocabulary("e", ",", "!").form.dropped("e, e!")


def test_turkish_texts_have_their_own_case() -> None:
    """I is dotless where the texts' alphabet is Turkish; elsewhere it keeps its usual case."""
    turkish = TextForm.of_texts(["Isparta \u0130zmir", "\u0131l\u0131k"])
    assert turkish.turkic
    assert turkish.normalise("Isparta \u0130zmir") == "\u0131sparta izmir"
    mixed = TextForm.of_texts(["I saw Kad\u0131k\u00f6y"])
    assert not mixed.turkic
    assert mixed.normalise("I saw \u0130zmir") == "i saw izmir"
