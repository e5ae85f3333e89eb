"""What may come next in a chain: the judge on labelled pairs, on the records' chains, and on what models say."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pytest

from bonsai.builder.checks.base import extract_previous_question
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.schema import Language, TextGroup
from bonsai.recipes.inference.conversation import Answer, QuestionChain, Step
from bonsai.recipes.inference.perspectives import PERSPECTIVES, PLAIN, next_question_request
from bonsai.recipes.inference.qtq_judge import (
    DEEP_FROM,
    RejectionKind,
    depth_score,
    extract_question,
    ranking_score,
    score_candidate,
)
from bonsai.recipes.inference.question_similarity import SAME_FROM, question_aspects, same_question_probability

PAIRS = Path(__file__).parents[1] / "question_pairs.jsonl"
BY_KEY = {one.key: one for one in (*PERSPECTIVES, PLAIN)}


def record_chains() -> dict[tuple[str, Language], list[str]]:
    steps: dict[tuple[str, Language], dict[int, tuple[str, str]]] = {}
    for located in read_groups(default_records_dir()):
        group = located.group
        if isinstance(group, TextGroup) and group.chain:
            for language, text in group.texts().items():
                found = steps.setdefault((group.chain.id, language), {})
                found[group.chain.step] = extract_previous_question(text.input), text.output
    return {key: [found[1][0], *(found[step][1] for step in sorted(found))] for key, found in steps.items()}


def step(question: str, answer: str, number: int = 1, language: Language = Language.EN) -> Step:
    said = Answer(
        model="scripted",
        language=language,
        reasoning="",
        answer=answer,
        passes=1,
        stopped_by="eos",
        tokens=9,
        seconds=0.1,
    )
    return Step(number=number, question=question, answer=said)


def chain(*steps: Step, language: Language = Language.EN) -> QuestionChain:
    return QuestionChain(id="test", theme=steps[0].question, language=language, depth=5, steps=steps)


NEWS = chain(
    step("Why does bad news reach the top of a company so late?", "Because those who report it fear blame."),
    step("Who loses most when bad news comes late?", "Customers lose most. Managers hear of the loss last.", 2),
)


def test_half_of_the_labelled_pairs_that_nothing_was_fitted_to_are_told_apart() -> None:
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    assert len({(row["first"], row["second"]) for row in rows}) == len(rows) >= 150
    held_out = [row for row in rows if hashlib.sha256(row["first"].encode()).digest()[0] % 2]
    for language in Language:
        among = [row for row in held_out if row["language"] == language]
        told = [
            (same_question_probability(row["first"], row["second"]) >= SAME_FROM, row["tautology"]) for row in among
        ]
        hits = sum(said and true for said, true in told)
        assert hits >= 0.9 * sum(true for _, true in told), language
        assert hits >= 0.65 * sum(said for said, _ in told), language


def test_good_questions_of_the_records_are_rarely_taken_for_circles() -> None:
    pairs = [pair for questions in record_chains().values() for pair in pairwise(questions)]
    assert sum(same_question_probability(*pair) >= SAME_FROM for pair in pairs) <= 0.1 * len(pairs)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("What is the capital of Japan?", "What is the capital of France?", False),
        ("日本の首都はどこですか。", "フランスの首都はどこですか。", False),
        ("日本的首都是哪里？", "法国的首都是哪里？", False),
        ("How does sleep affect learning?", "How does learning affect sleep?", False),
        ("Why did sales fall in 2019?", "Why did sales fall in 2021?", False),
        ("Why do meetings run late?", "Why do meetings run late, in your opinion?", True),
        ("なぜ会議は長くなるのですか。", "会議が長引く理由は何ですか。", True),
        ("会议为什么会拖长？", "会议拖长的原因是什么？", True),
    ],
)
def test_names_numbers_and_roles_make_another_question_and_other_words_do_not(
    first: str, second: str, same: bool
) -> None:
    assert (same_question_probability(first, second) >= SAME_FROM) is same
    assert (same_question_probability(second, first) >= SAME_FROM) is same


@pytest.mark.parametrize(
    ("question", "asked_for"),
    [
        ("Why is the sky blue?", "cause"),
        ("What makes the sky blue?", "cause"),
        ("会議が長くなる理由は何ですか。", "cause"),
        ("Can you explain who pays for it?", "person"),
        ("それは本当に役に立ちますか。", "whether"),
        ("怎样才能查明原因？", "measure"),
    ],
)
def test_what_a_question_asks_for_is_read_from_its_wording(question: str, asked_for: str) -> None:
    assert asked_for in question_aspects(question)
    assert "whether" not in question_aspects("なぜ役に立つのですか。")


def test_most_chains_of_the_records_are_deeper_forwards_than_backwards() -> None:
    deeper, low = {language: [] for language in Language}, []
    for (_, language), questions in record_chains().items():
        forwards = [depth_score(new, questions[:at]) for at, new in enumerate(questions) if at]
        backwards = [depth_score(old, questions[at + 1 :]) for at, old in enumerate(questions[:-1])]
        deeper[language].append(sum(forwards) > sum(backwards))
        low += [reached < DEEP_FROM for reached in forwards]
    for language, found in deeper.items():
        assert sum(found) >= 0.75 * len(found), (language, sum(found), len(found))
    assert sum(low) <= 0.03 * len(low)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", RejectionKind.SILENT),
        ("People fear blame.", RejectionKind.NO_QUESTION),
        ("悪い知らせはなぜ遅れますか。", RejectionKind.FOREIGN),
        ("Why ÃƒÂ© does itâ€™s bad news Ã¢â‚¬â„¢ arrive late?", RejectionKind.GARBLED),
        ("Can you write just one question that asks why it is so?", RejectionKind.REQUEST),
        ("Why is it so that the answer has one claim?", RejectionKind.REQUEST),
        ("How could one measure what the answer says of bad news?", RejectionKind.REQUEST),
        ("Is a company with bad news a company with bad news?", RejectionKind.LOOPING),
        (f"Why does bad news {'from the shop floor and the stores ' * 12}come late?", RejectionKind.LONG),
        ("Why is it so?", RejectionKind.EMPTY),
        ("What makes bad news come to the top of a company so late?", RejectionKind.CIRCULAR),
        ("Who is hurt most when bad news arrives late?", RejectionKind.CIRCULAR),
        ("Do managers hear of the loss last?", RejectionKind.ANSWERED),
        ("What if managers hear of the loss last?", RejectionKind.ANSWERED),
        ("How many moons does the planet Jupiter have?", RejectionKind.ASTRAY),
        ("Is bad news bad for a company?", RejectionKind.SHALLOW),
    ],
)
def test_a_candidate_that_must_not_come_next_is_refused_for_its_fault(text: str, kind: RejectionKind) -> None:
    found = score_candidate(text, BY_KEY["why"], NEWS)
    assert found.fault is kind, found
    assert found.candidate.refused_because


@pytest.mark.parametrize(
    "text",
    [
        "How could one measure the time that bad news takes to reach the managers?",
        "Question: In which companies does bad news travel as fast as good news?",
        "1. If nobody were blamed, what would managers hear earlier?",
    ],
)
def test_a_deeper_question_on_the_theme_passes_without_its_label(text: str) -> None:
    found = score_candidate(text, BY_KEY["measure"], NEWS)
    assert found.fault is None, found
    assert found.candidate.question in text
    assert found.candidate.question[0] in "HI"
    assert -1 <= found.candidate.nearness <= 1


def test_no_question_of_the_records_is_malformed() -> None:
    for (_, language), questions in record_chains().items():
        so_far = chain(step(questions[0], "A b c.", language=language), language=language)
        for number, question in enumerate(questions[1:]):
            fault = score_candidate(question, PERSPECTIVES[number], so_far).fault
            assert fault in (None, RejectionKind.CIRCULAR, RejectionKind.ASTRAY, RejectionKind.SHALLOW), (
                question,
                fault,
            )


def test_the_first_question_of_a_text_is_taken_and_remarks_around_it_are_not() -> None:
    assert extract_question("Here is one. Why do people fear blame? And who says so?") == "Why do people fear blame?"
    assert (
        extract_question("質問：なぜ責められるのが怖いのですか。理由もあります。") == "なぜ責められるのが怖いのですか。"
    )
    assert extract_question("Blame is feared.") == ""


def test_a_question_that_asks_how_one_would_know_is_worth_more_than_one_for_a_benefit() -> None:
    texts = (
        "How could one measure how late bad news comes?",
        "What benefits does early news of a loss have for a firm?",
    )
    measure, benefit = (score_candidate(text, BY_KEY["why"], NEWS).candidate for text in texts)
    assert ranking_score(measure) > ranking_score(benefit)


@pytest.mark.parametrize("language", list(Language))
def test_each_perspective_asks_in_each_language_with_theme_and_last_turns(language: Language) -> None:
    steps = [
        step(question, "A b c.", number, language)
        for number, question in enumerate(("q1?", "q2?", "q3?", "q4?", "q5?"), 1)
    ]
    for perspective in (*PERSPECTIVES, PLAIN):
        asked = next_question_request(chain(*steps, language=language), perspective, system="A persona.")
        assert (asked.instruction, asked.system) == (perspective.wording[language], "A persona.")
        assert asked.language is language
        assert [name for name in ("q1?", "q2?", "q3?", "q4?", "q5?") if name in asked.input] == [
            "q1?",
            "q3?",
            "q4?",
            "q5?",
        ]
    first = next_question_request(chain(steps[0], language=language), PERSPECTIVES[0]).input
    assert extract_previous_question(first) == "q1?", "the form in which the adapters learnt it"


def test_a_long_answer_is_told_again_in_whole_sentences_only() -> None:
    long = " ".join(f"Sentence number {number} says something." for number in range(40))
    told = next_question_request(chain(step("Why?", long)), PLAIN).input
    assert len(told) < 600
    assert told.endswith("says something.")
