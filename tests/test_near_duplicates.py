"""Near duplicates against a plain definition: what is found is what counting shingles by hand finds."""

from __future__ import annotations

import itertools
import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonsai.builder.minhash import find_near_duplicates, fold_for_dedup, jaccard, nfkc_batch

JAPANESE = "盆栽の水やりは、鉢土の表面が乾いてから行います。冬は三日に一度、夏は朝夕の二度が目安です。"
ENGLISH = "Water a bonsai only when the surface of its soil has dried: every third day in winter, twice in summer."
CHINESE = "盆栽浇水要等盆土表面干了以后再进行。冬天大约三天浇一次，夏天早晚各浇一次比较合适。"


def plainly_folded(text: str) -> str:
    characters = unicodedata.normalize("NFKC", text)
    kept = (c for c in characters if unicodedata.category(c)[0] not in "PZC")
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in kept)


def plain_jaccard(one: str, other: str) -> float:
    one, other = plainly_folded(one), plainly_folded(other)
    shorter = min(len(one), len(other))
    size = 5 if shorter >= 32 else 3 if shorter >= 12 else 2 if shorter >= 2 else 1
    sets = [{text[i : i + size] for i in range(len(text) - size + 1)} for text in (one, other)]
    return len(sets[0] & sets[1]) / max(len(sets[0] | sets[1]), 1) if shorter else 0.0


def decoded(texts: list[str]) -> list[str]:
    found = fold_for_dedup(nfkc_batch(texts))
    return ["".join(map(chr, found.codes[low:high])) for low, high in itertools.pairwise(found.starts.tolist())]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=8))
def test_texts_folded_together_are_texts_folded_one_by_one(texts: list[str]) -> None:
    assert decoded(texts) == [plainly_folded(text) for text in texts]


def test_every_single_character_is_normalised_as_the_standard_says() -> None:
    characters = [chr(code) for code in range(0x30000) if not 0xD800 <= code < 0xE000]
    found = nfkc_batch(characters)
    joined = "".join(map(chr, found.codes))
    expected = [unicodedata.normalize("NFKC", character) for character in characters]
    assert joined == "".join(expected)
    assert found.lengths().tolist() == [len(text) for text in expected]


@pytest.mark.parametrize("text", ["か\u3099", "ｶﾞｷﾞ", "\u1112\u1161\u11ab", "㍿の①…", "e\u0301"])
def test_characters_that_join_their_neighbours_are_normalised_in_their_text(text: str) -> None:
    assert "".join(map(chr, nfkc_batch(["x", text, "y"]).codes)) == f"x{unicodedata.normalize('NFKC', text)}y"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abあ漢字 、。1２", max_size=60), min_size=2, max_size=6))
def test_the_similarity_is_the_share_of_common_shingles(texts: list[str]) -> None:
    pairs = np.asarray(list(itertools.combinations(range(len(texts)), 2)))
    expected = [plain_jaccard(texts[one], texts[other]) for one, other in pairs]
    assert jaccard(fold_for_dedup(nfkc_batch(texts)), pairs).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("text", [JAPANESE, ENGLISH, CHINESE])
def test_a_small_edit_is_found_in_every_language(text: str) -> None:
    edited = text[:20] + text[22:]
    found = find_near_duplicates(["苔の話はまた別の機会に。", text, "Something else entirely.", edited])
    assert [(pair.first, pair.second) for pair in found] == [(1, 3)]
    assert found[0].jaccard == pytest.approx(plain_jaccard(text, edited))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("日本の首都はどこですか。", "日本の首都は、どこですか？"),
        ("ABC 123 を説明して", "ＡＢＣ１２３を説明して"),
        ("What is a bonsai?", "what is a BONSAI"),
    ],
)
def test_punctuation_width_and_case_do_not_count(one: str, other: str) -> None:
    assert find_near_duplicates([one, other])[0].jaccard == 1.0


def test_two_short_texts_meet_on_either_side_of_a_length_limit() -> None:
    one = "盆栽の水やりは朝と夕方に行うのがよいと言われていますがなぜです"
    other = one + "か"
    assert (len(one), len(other)) == (31, 32)
    assert [(pair.first, pair.second) for pair in find_near_duplicates([one, other])] == [(0, 1)]


def test_parallel_texts_and_different_texts_are_no_near_duplicates() -> None:
    assert find_near_duplicates([JAPANESE, ENGLISH, CHINESE, "", "?!", "猫"]) == []


def test_all_pairs_that_counting_finds_are_found() -> None:
    chance = random.Random(7)
    texts = []
    for _ in range(90):
        base = "".join(chance.choices("あいうえおかきくけこ木水土日月火金山川田", k=chance.randint(8, 120)))
        texts.append(base)
        for _ in range(2):
            place = chance.randrange(len(base))
            texts.append(base[:place] + chance.choice("猫犬鳥") + base[place + chance.randint(0, 4) :])
    expected = {
        (one, other)
        for one, other in itertools.combinations(range(len(texts)), 2)
        if plain_jaccard(texts[one], texts[other]) >= 0.6
    }
    found = {(pair.first, pair.second) for pair in find_near_duplicates(texts, threshold=0.6)}
    assert found <= expected
    assert len(found) >= 0.995 * len(expected)


def test_a_hundred_copies_cost_no_more_than_their_pairs() -> None:
    found = find_near_duplicates([f"{ENGLISH} {number}" for number in range(100)])
    assert {pair.second for pair in found} == set(range(1, 100))


def test_no_texts_have_no_pairs_and_a_wild_threshold_is_refused() -> None:
    assert find_near_duplicates([]) == []
    with pytest.raises(ValueError, match=r"the threshold is 0\.1; give a similarity from 0\.3 to 1"):
        find_near_duplicates(["a"], threshold=0.1)
