from __future__ import annotations

from pathlib import Path

import pytest

from bonsai.builder.errors import AskingError, EvaluationError
from bonsai.builder.records import default_probes, read_probes
from bonsai.builder.schema import Language
from bonsai.recipes.evaluation.comparison.record import LISTS, read_questions, with_persona
from bonsai.recipes.inference.generation import BLOG_POST


def test_the_five_questions_of_the_post_are_there_in_both_languages() -> None:
    japanese, english = read_questions(["post-ja"]), read_questions(["post-en"])
    assert len(japanese) == len(english) == 5
    assert japanese[0].question.instruction == (
        "一年以上、放射性セシウムを経口摂取した場合の人体への影響と許容量を教えてください。"
    )
    assert japanese[3].question.instruction == "放射性ストロンチウムの健康影響は何ですか？"
    assert {one.question.language for one in english} == {Language.EN}


def test_the_posts_settings_are_the_preset_with_its_persona_in_the_language_of_the_question() -> None:
    assert (BLOG_POST.max_new_tokens, BLOG_POST.temperature, BLOG_POST.top_p, BLOG_POST.repetition_penalty) == (
        1024,
        0.2,
        0.95,
        1.15,
    )
    asked = with_persona(read_questions(["post-ja", "post-en"]), None)
    assert asked[0].question.system == "あなたは良心的な科学者です。"
    assert asked[5].question.system == "You are a conscientious scientist."


def test_a_persona_of_ones_own_takes_the_place_of_the_posts_and_an_empty_one_is_none() -> None:
    asked = read_questions(["post-ja"])
    assert {one.question.system for one in with_persona(asked, "庭師です。")} == {"庭師です。"}
    assert {one.question.system for one in with_persona(asked, "")} == {""}


def test_the_probes_are_a_list_and_so_are_those_of_each_language() -> None:
    probes = read_probes(default_probes())
    assert [one.id for one in read_questions(["probes"])] == [probe.id for probe in probes]
    english = read_questions(["probes-en"])
    assert [one.id for one in english] == [
        probe.id for probe in probes if probe.language == probe.answer_language == Language.EN
    ]
    assert any(one.accepted for one in english)


def test_every_list_that_is_offered_can_be_read() -> None:
    assert all(read_questions([name]) for name in LISTS)


def test_a_text_file_has_a_question_a_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\ufeffWhy is bonsai pruned?\r\n\r\n  盆栽とは？ \r\n", encoding="utf-8")
    found = read_questions([str(file)])
    assert [one.question.instruction for one in found] == ["Why is bonsai pruned?", "盆栽とは？"]
    assert [one.id for one in found] == ["mine-1", "mine-2"]
    assert {one.group for one in found} == {"mine"}


def test_a_question_of_a_file_keeps_its_own_input_language_and_persona(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    line = '{"instruction": "Translate.", "input": "山\u2028川", "language": "en", "system": "庭師です。"}\n'
    file.write_text(line + '{"instruction": "盆栽とは？"}\n', encoding="utf-8")
    found, other = with_persona(read_questions([str(file)]), None)
    assert (found.question.input, found.question.language) == ("山\u2028川", Language.EN)
    assert (found.question.system, other.question.system) == ("庭師です。", "あなたは良心的な科学者です。")


@pytest.mark.parametrize(
    ("text", "told"),
    [("\n\n", r"mine.txt has no question"), ('Why?\n{"instruction": \n', r"mine.txt:2: starts like JSON")],
)
def test_a_file_that_is_no_list_is_told_by_its_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "mine.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(AskingError, match=told):
        read_questions([str(file)])


def test_a_list_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"questions are listed twice, e.g. probe-\d+; give each list once"):
        read_questions(["probes", "probes-en"])


def test_a_binary_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_bytes(b"PNG\xff\xfe\x00")
    with pytest.raises(AskingError, match=r"mine.txt: byte 3 is not UTF-8"):
        read_questions([str(file)])


def test_an_unknown_list_names_those_there_are() -> None:
    with pytest.raises(EvaluationError, match=r"post-jp is neither a file nor a list; the lists are post-ja, post-en"):
        read_questions(["post-jp"])
