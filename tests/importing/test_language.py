"""The language of short texts, which a model alone often gets wrong."""

from __future__ import annotations

import pytest

from bonsai.builder.language_id import detect_language, detect_languages


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("これは盆栽です", "ja"),
        ("ｺﾝﾆﾁﾊ", "ja"),
        ("Python の def は関数を定義します", "ja"),
        ("東京駅前", "ja"),
        ("The word 盆栽 is Japanese for a tree in a pot.", "en"),
        ("我们今天学习", "zh"),
        ("请把下面的日语译成中文", "zh"),
        ("日文里的“の”相当于“的”，用来连接两个名词，这一点和汉语很像", "zh"),
        ("今天天氣很好，我想出去走走，你呢", "zh"),
        ("안녕하세요 반갑습니다", "ko"),
        ("42", "und"),
        ("", "und"),
    ],
)
def test_the_script_decides_and_the_model_only_the_rest(text: str, language: str) -> None:
    assert detect_language(text) == language


def test_the_expected_language_decides_where_characters_leave_it_open() -> None:
    assert detect_language("京都大学", expected="ja") == "ja"
    assert detect_language("北京大学", expected="zh") == "zh"


def test_many_texts_are_judged_as_each_alone() -> None:
    texts = ["水", "water", "水をやる", "", "浇水", "？"]
    assert detect_languages(texts) == [detect_language(text) for text in texts]
