"""Test numbers, dates and names as Japanese, English and Chinese write them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonsai.builder.checks.numbers import mark_numbers
from bonsai.builder.checks.parallel import sounds_alike, sounds_alike_in
from bonsai.builder.checks.paraphrase import paraphrase_probability
from bonsai.builder.checks.quantities import extract_quantities, quantity_mismatch


@pytest.mark.parametrize(
    "spelled",
    ["四万二千", "四萬二千", "4万2千", "4.2万", "4.2萬", "42,000", "42000", "forty-two thousand", "４２,０００"],
)
def test_mark_numbers_reads_all_spellings_of_42000(spelled: str) -> None:
    assert [number.value for number in mark_numbers(spelled).numbers] == [42_000]


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
def test_mark_numbers_reads_fractions_scales_and_ordinals(spelled: str, value: Fraction) -> None:
    assert [number.value for number in mark_numbers(spelled).numbers] == [value]


@pytest.mark.parametrize("text", ["M4のねじ", "CO2", "十分な水", "一般に", "数十年", "三日月", "a few hundred records"])
def test_extract_quantities_ignores_words_that_look_like_numbers(text: str) -> None:
    assert not any(one.weight for one in extract_quantities(text))


def _han(number: int) -> str:
    """Written as a check of the reader: 4275 is 四千二百七十五."""
    digits = "〇一二三四五六七八九"
    places = ((1000, "千"), (100, "百"), (10, "十"), (1, ""))
    parts = [(number // size % 10, name) for size, name in places]
    return "".join(f"{digits[digit] if digit > 1 or not name else ''}{name}" for digit, name in parts if digit)


@given(st.integers(min_value=2, max_value=9999))
def test_quantity_mismatch_equates_han_numerals_and_digits(number: int) -> None:
    assert not any(quantity_mismatch(f"{_han(number)}個", f"{number} pieces"))
    assert all(quantity_mismatch(f"{_han(number)}個", f"{number + 1} pieces"))


@given(st.integers(min_value=0, max_value=23), st.integers(min_value=0, max_value=59))
def test_quantity_mismatch_equates_times_across_languages(hour: int, minute: int) -> None:
    twelve, half = hour % 12 or 12, "p.m." if hour >= 12 else "a.m."
    english, japanese, chinese = f"{twelve}:{minute:02d} {half}", f"{hour}時{minute}分", f"{hour}点{minute}分"
    assert not any(quantity_mismatch(english, japanese))
    assert not any(quantity_mismatch(japanese, chinese))


ONE_TIME = {
    "11:30": "十一時半|11時半|午前十一時半|十一時三十分|eleven thirty|eleven-thirty|half past eleven|11.30 a.m.|11:30am"
    "|half eleven|上午十一点半|十一點半|thirty minutes past eleven",
    "14:30": "午後二時半|14時30分|下午两点半|两点半|two thirty p.m.|two-thirty in the afternoon|half past two|2:30pm",
    "12:00": "正午|noon|12 noon|twelve noon|midday|中午12点|お昼の十二時|twelve o'clock|12 p.m.|正午12時",
    "0:00": "真夜中|midnight|午前0時|半夜十二点|夜の12時|24時|深夜零時|12 a.m.|twelve midnight|凌晨零点|午夜",
    "9:45": "九時四十五分|a quarter to ten|quarter to 10|nine forty-five|九点三刻|差一刻十点|十点差一刻|十時十五分前"
    "|fifteen minutes to ten",
    "9:15": "九時十五分|a quarter past nine|nine fifteen|九点一刻|fifteen past nine|quarter after nine|9時15分過ぎ",
    "7:05": "seven oh five|7時5分|七点零五分|five past seven|five minutes past seven",
    "6:20": "六時二十分|twenty past six|六点二十|six twenty|6:20",
    "15:00": "午後三時|下午三点整|three p.m.|three in the afternoon|3 o'clock in the afternoon|3 o'clock",
    "20:00": "夜の八時|eight in the evening|晚上八点|eight o'clock at night|8 p.m.",
    "2:00": "深夜2時|夜中の2時|two in the morning|凌晨两点|半夜两点|two o'clock at night",
}


def _opens(time: str) -> str:
    return f"The shop opens at {time} sharp." if time.isascii() else f"店は{time}に開く。"


@pytest.mark.parametrize("time", ONE_TIME)
def test_quantity_mismatch_equates_wordings_of_one_time(time: str) -> None:
    forms = ONE_TIME[time].split("|")
    pairs = [(one, other) for one in forms for other in forms if any(quantity_mismatch(_opens(one), _opens(other)))]
    assert pairs == []


@pytest.mark.parametrize("time", ONE_TIME)
def test_quantity_mismatch_tells_different_times_apart(time: str) -> None:
    others = [form for name, forms in ONE_TIME.items() if name != time for form in forms.split("|")]
    unseen = [
        (one, other)
        for one in ONE_TIME[time].split("|")
        for other in others
        if not any(quantity_mismatch(_opens(one), _opens(other)))
    ]
    faces = {"12:00": "0:00", "0:00": "12:00"}  # twelve o'clock is either
    either = ONE_TIME.get(faces.get(time, ""), "").split("|")
    assert [pair for pair in unseen if pair[1] not in either] == []


@pytest.mark.parametrize(
    ("english", "japanese"),
    [
        ("three fifteen-minute breaks", "15分の休みを3回"),
        ("eleven thirty-year-olds", "30歳の人が11人"),
        ("It cost nine fifty.", "9.50ドルでした"),
        ("in nineteen forty-five", "1945年に"),
        ("five to ten minutes", "5〜10分"),
        ("Take three in the morning.", "朝に3錠飲む。"),
        ("a quarter of ten people", "10人の4分の1"),
    ],
)
def test_quantity_mismatch_does_not_mistake_counts_for_times(english: str, japanese: str) -> None:
    assert not any(quantity_mismatch(english, japanese))
    assert all(quantity_mismatch(english, "77個と78個"))


@given(st.text(max_size=80), st.text(max_size=80))
def test_quantity_mismatch_accepts_any_text(first: str, second: str) -> None:
    assert not any(quantity_mismatch(first, first))
    assert quantity_mismatch(first, second).first == quantity_mismatch(second, first).second


@pytest.mark.parametrize(
    ("katakana", "latin"),
    [("ブダペスト", "Budapest"), ("ガニメデ", "Ganymede"), ("ホルスト", "Holst"), ("シェイクスピア", "Shakespeare")],
)
def test_sounds_alike_compares_katakana_and_latin_names(katakana: str, latin: str) -> None:
    assert sounds_alike(katakana, latin) >= 0.75
    assert sounds_alike(katakana, "Vienna") < 0.5


def test_sounds_alike_in_finds_a_name_in_chinese() -> None:
    assert sounds_alike_in("カリスト", "卡利斯托。") == 1.0
    assert sounds_alike_in("ブダペスト", "匈牙利的布达佩斯。") >= 0.75
    assert sounds_alike_in("ベオグラード", "匈牙利的布达佩斯。") < 0.75


def test_paraphrase_probability_is_zero_for_words_in_contrast() -> None:
    assert paraphrase_probability("What is the capital of Japan?", "What is the capital of France?", 0.99) == 0.0
    assert paraphrase_probability("夏の水やりは一日に何回ですか。", "冬の水やりは一日に何回ですか。", 0.99) == 0.0
    assert paraphrase_probability("空が青いのはなぜですか。", "なぜ空は青いのですか。", 0.9) > 0.9
