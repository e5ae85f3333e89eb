from __future__ import annotations

from collections.abc import Callable

import pytest

from bonsai.model_card.card import render
from bonsai.model_card.linter import LintIssue, lint_card
from tests.model_card.facts import BARE, FULL

CARD = render(FULL)
"""clean, see test_card"""


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(card: str) -> str:
        assert old in card, old
        return card.replace(old, new, 1)

    return change


def added(text: str) -> Callable[[str], str]:
    return replaced("## Licence\n", f"{text}\n\n## Licence\n")


FAULTS: tuple[tuple[Callable[[str], str], str], ...] = (
    (added("[More Information Needed]"), "'More Information Needed' is a placeholder"),
    (added("TODO: say more"), "'TODO' is a placeholder"),
    (added("trained on {{ facts.train_rows }} records"), "'{{' is a placeholder"),
    (added("Its sponsor is None."), "'None' is a placeholder"),
    (replaced("| device | Tesla T4 |", "| device | None |"), "'None' is a placeholder"),
    (added("### Limits"), "the section 'Limits' is empty"),
    (added("### Limits\n\n```text\n```"), ""),  # a block is content
    (replaced("license: apache-2.0", "license: mit"), "'license' in the YAML block differs from the run's record"),
    (replaced("license: apache-2.0\n", ""), "'license' is missing from the YAML block"),
    (replaced("base_model_relation: adapter\n", ""), "'base_model_relation' is missing"),
    (replaced("value: 0.5\n", "value: 0.9\n"), "'model-index' in the YAML block differs"),
    (replaced("language:\n", "language: [\n"), "can't be read by huggingface_hub"),
    (replaced("- name: bonsai-seedling\n", "- title: x\n"), "can't be read by huggingface_hub"),
    (
        replaced(
            "---\n",
            "",
        ),
        "the YAML block is missing",
    ),
    (replaced("The adapter: apache-2.0", "The adapter: mit"), "the text does not name apache-2.0"),
    (replaced("## Licence", "## Terms"), "the section 'Licence' is missing"),
    (replaced("| 40 | 2.000 |", "| 40 | 1.000 |"), "loss: '1.000', but the run's record says '2.000'"),
    (replaced("| 20 | 3.000 | 1.0e-03 | 6,000 | 2.500 |\n", ""), "lines; the run's record gives"),
    (replaced("1,234,567", "1,234,568"), "'1,234,568', but the run's record says '1,234,567'"),
    (replaced("3.500 with the bare", "3.600 with the bare"), "3.600 is not in the run's record"),
    (replaced("学習後2.250", "学習後2.150"), "2.150 is not in the run's record"),
    (replaced("| open_qa | ja | F1 | 12 |", "| open_qa | ja | F1 | 120 |"), "questions: '120'"),
    (added("It scores 99.9% on everything."), "99.9% is not in the run's record"),
    (added("### Awards\n\nRanked 1 of 3."), "1 is in a section that the run's record knows nothing of"),
    (added("See [it](https://example.org/x)."), "https://example.org/x leads away from the Hub"),
    (added("See http://example.org/x."), "http://example.org/x. leads away from the Hub"),
    (added("See [it](#nowhere)."), "no heading is called #nowhere"),
    (added("See [it](/me/other)."), "/me/other leads nowhere on the Hub"),
    (added("Lies in /home/someone/out."), "/home/someone/out. is a place on one machine"),
    (added("```bash\ncp /tmp/x/y .\n```"), "/tmp/x/y is a place on one machine"),
    (added("Lies in C:\\Users\\me."), "C:\\Users\\me is a place on one machine"),
    (added("Lies in ~/bonsai."), "~/bonsai. is a place on one machine"),
    (added("See [the files](training/loss.csv) and [the base](https://huggingface.co/me/base)."), ""),
)


@pytest.mark.parametrize(("change", "told"), FAULTS, ids=[told or f"fine {n}" for n, (_, told) in enumerate(FAULTS)])
def test_a_fault_planted_in_a_clean_card_is_told(change: Callable[[str], str], told: str) -> None:
    complaints = lint_card(change(CARD), FULL)
    if not told:
        assert complaints == []
    else:
        assert any(told in complaint.message for complaint in complaints), complaints


def test_a_complaint_names_its_line() -> None:
    spoilt = added("TODO")(CARD)
    line = spoilt.split("\n").index("TODO") + 1
    assert lint_card(spoilt, FULL) == [LintIssue(line, "'TODO' is a placeholder; write what is known or leave it out")]
    assert str(LintIssue(3, "x")) == "3: x"


def test_all_complaints_come_at_once() -> None:
    spoilt = added("TODO\n\n### Limits")(replaced("1,234,567", "7")(CARD))
    assert len(lint_card(spoilt, FULL)) == 3


def test_what_a_record_or_a_model_said_is_not_held_against_the_card() -> None:
    assert "TODO" in CARD
    assert "{{ name }}" in CARD
    assert lint_card(CARD, FULL) == []


def test_a_card_of_another_run_is_not_taken() -> None:
    assert len(lint_card(CARD, BARE)) > 10


def test_a_person_may_rewrite_a_sentence() -> None:
    rewritten = replaced("conversations of several turns", "long talks")(CARD)
    assert lint_card(rewritten, FULL) == []
