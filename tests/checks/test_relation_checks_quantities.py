"""Numbers, dates and names as Japanese, English and Chinese write them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonsai.builder.checks.names import heard_in, sounds_alike
from bonsai.builder.checks.numerals import marked
from bonsai.builder.checks.quantities import disagreement, quantities
from bonsai.builder.checks.rewording import rewording


@pytest.mark.parametrize(
    "spelled",
    ["四万二千", "四萬二千", "4万2千", "4.2万", "4.2萬", "42,000", "42000", "forty-two thousand", "４２,０００"],
)
def test_forty_two_thousand_is_one_value_however_it_is_spelled(spelled: str) -> None:
    assert [number.value for number in marked(spelled).numbers] == [42_000]


@pytest.mark.parametrize(
    ("spelled", "value"),
    [
        ("9.46万亿", Fraction(9_460_000_000_000)),
        ("1億5000万", Fraction(150_000_000)),
        ("二〇二四", Fraction(2024)),
        ("百二十", Fraction(120)),
        ("2 1/2", Fraction(5, 2)),
        ("1½", Fraction(3, 2)),
        ("六分之一", Fraction(1, 6)),
        ("half a dozen", Fraction(6)),
        ("one hundred and five", Fraction(105)),
        ("3 dozen", Fraction(36)),
        ("twenty-first", Fraction(21)),
    ],
)
def test_a_number_is_read_as_its_language_means_it(spelled: str, value: Fraction) -> None:
    assert [number.value for number in marked(spelled).numbers] == [value]


@pytest.mark.parametrize("text", ["M4のねじ", "CO2", "十分な水", "一般に", "数十年", "三日月", "a few hundred records"])
def test_what_only_looks_like_a_number_is_left_alone(text: str) -> None:
    assert not any(one.weight for one in quantities(text))


def _han(number: int) -> str:
    """Written as a check of the reader: 4275 is 四千二百七十五."""
    digits = "〇一二三四五六七八九"
    places = ((1000, "千"), (100, "百"), (10, "十"), (1, ""))
    parts = [(number // size % 10, name) for size, name in places]
    return "".join(f"{digits[digit] if digit > 1 or not name else ''}{name}" for digit, name in parts if digit)


@given(st.integers(min_value=2, max_value=9999))
def test_han_numerals_and_digits_agree(number: int) -> None:
    assert not any(disagreement(f"{_han(number)}個", f"{number} pieces"))
    assert all(disagreement(f"{_han(number)}個", f"{number + 1} pieces"))


@given(st.integers(min_value=0, max_value=23), st.integers(min_value=0, max_value=59))
def test_a_time_of_the_day_is_one_in_three_languages(hour: int, minute: int) -> None:
    twelve, half = hour % 12 or 12, "p.m." if hour >= 12 else "a.m."
    english, japanese, chinese = f"{twelve}:{minute:02d} {half}", f"{hour}時{minute}分", f"{hour}点{minute}分"
    assert not any(disagreement(english, japanese))
    assert not any(disagreement(japanese, chinese))


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_is_read_and_agrees_with_itself(first: str, second: str) -> None:
    assert not any(disagreement(first, first))
    assert disagreement(first, second).first == disagreement(second, first).second


@pytest.mark.parametrize(
    ("katakana", "latin"),
    [("ブダペスト", "Budapest"), ("ガニメデ", "Ganymede"), ("ホルスト", "Holst"), ("シェイクスピア", "Shakespeare")],
)
def test_a_name_sounds_alike_in_katakana_and_in_latin_letters(katakana: str, latin: str) -> None:
    assert sounds_alike(katakana, latin) >= 0.75
    assert sounds_alike(katakana, "Vienna") < 0.5


def test_a_name_is_heard_in_a_chinese_answer() -> None:
    assert heard_in("カリスト", "卡利斯托。") == 1.0
    assert heard_in("ブダペスト", "匈牙利的布达佩斯。") >= 0.75
    assert heard_in("ベオグラード", "匈牙利的布达佩斯。") < 0.75


def test_a_country_or_a_season_makes_another_question_however_close_the_vectors_are() -> None:
    assert rewording("What is the capital of Japan?", "What is the capital of France?", 0.99) == 0.0
    assert rewording("夏の水やりは一日に何回ですか。", "冬の水やりは一日に何回ですか。", 0.99) == 0.0
    assert rewording("空が青いのはなぜですか。", "なぜ空は青いのですか。", 0.9) > 0.9
