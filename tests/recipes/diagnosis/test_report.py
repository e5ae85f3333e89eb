from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from bonsai.builder.records import default_records_dir
from bonsai.model_card.facts import DiagnosisFacts
from bonsai.recipes.training.diagnosis import (
    build_findings,
    card_lines,
    diagnose,
    explain_diagnosis,
    format_diagnosis,
    rank_by_loss,
    record_locations,
    write_table,
)
from bonsai.recipes.training.record_losses import RecordLoss
from bonsai.recipes.training.run_record import LossPoint, RunRecord, ValidationPoint, load_diagnosis, save_diagnosis
from tests.recipes.diagnosis.curves import falling, noisy

FINDINGS: list[dict[str, Any]] = [
    {"check": "contradiction", "group_id": "open_qa-0002", "field": "en.output", "what": "Kyoto and Tokyo"},
    {"check": "language", "group_id": "open_qa-0002", "field": "ja.output", "what": "English in Japanese"},
    {"check": "duplicates", "group_id": "open_qa-0003", "field": "", "what": "like open_qa-0004"},
]


def run(losses: list[LossPoint], **changed: Any) -> RunRecord:
    plain: dict[str, Any] = {
        "recipe_name": "seedling",
        "recipe": {},
        "adapter_repo": "me/a",
        "base_model": "me/b",
        "base_model_commit": "b" * 40,
        "dataset_repo": "me/bonsai",
        "dataset_content_hash": "c" * 64,
        "train_rows": 400,
        "validation_rows": 24,
        "losses": losses,
        "validation_loss_before": 3.5,
        "validation_loss_after": 2.25,
        "seconds": 100.0,
        "peak_memory_gib": 2.0,
        "device": "CPU",
        "compute_dtype": "float32",
        "trainable_parameters": 1,
        "versions": {},
        "constraints_sha256": None,
    }
    return RunRecord(**{**plain, **changed})


def measured(*losses: float) -> list[RecordLoss]:
    return [RecordLoss(f"open_qa-{n:04}-en", loss, 30) for n, loss in enumerate(losses, 1)]


def test_rank_by_loss_gives_location_and_own_language_findings() -> None:
    ranked = rank_by_loss(measured(0.5, 2.5, 1.5), {"open_qa-0002": "builder/records/open_qa.jsonl:2"}, FINDINGS)
    assert [one.id for one in ranked] == ["open_qa-0002-en", "open_qa-0003-en", "open_qa-0001-en"]
    assert ranked[0].reasons == ("contradiction: Kyoto and Tokyo",)
    assert ranked[0].published_place == "open_qa.jsonl:2"
    assert ranked[1].reasons == ("duplicates: like open_qa-0004",)
    assert (ranked[1].place, ranked[2].reasons) == ("", ())


def test_a_translation_is_doubted_for_either_of_its_languages() -> None:
    (one,) = rank_by_loss([RecordLoss("open_qa-0002-ja2en", 1.0, 9)], {}, FINDINGS)
    assert len(one.reasons) == 2


def test_the_real_records_have_places_and_the_build_has_findings(dataset: Path) -> None:
    places = record_locations(default_records_dir())
    assert places["open_qa-0001"].endswith("open_qa.jsonl:1")
    report = json.loads((dataset / "report.json").read_text(encoding="utf-8"))
    doubts = [finding for finding in report["findings"] if finding["severity"] != "note"]
    assert build_findings(dataset) == doubts
    assert build_findings(dataset / "nowhere") == []


def test_the_table_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    ranked = rank_by_loss(measured(0.5, 2.5), {"open_qa-0002": "/somewhere/of/mine/open_qa.jsonl:2"}, FINDINGS)
    text = write_table(ranked, tmp_path).read_text(encoding="utf-8")
    assert "somewhere" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert rows[0] == {
        "record": "open_qa-0002-en",
        "loss": "2.5000",
        "completion_tokens": "30",
        "place": "open_qa.jsonl:2",
        "checks": "contradiction: Kyoto and Tokyo",
    }


def test_format_diagnosis_is_bilingual_and_names_file_and_line() -> None:
    losses = noisy(falling, 100, seed=3)
    spiked = [*losses[:59], LossPoint(**{**vars(losses[59]), "loss": 8.0}), *losses[60:]]
    diagnosis = diagnose(run(spiked), measured(0.1, 2.5, 0.2), {"open_qa-0002": "records/open_qa.jsonl:2"}, FINDINGS)
    lines = "\n".join(format_diagnosis(diagnosis))
    assert "Step 60 stands out with 8.00" in lines
    assert "it saw open_qa-0060-en" in lines
    assert "no sign of overfitting" in lines
    assert "過学習の兆候はありません" in lines
    assert "records/open_qa.jsonl:2: open_qa-0002-en: loss 2.50; contradiction: Kyoto and Tokyo" in lines
    assert "a record that keeps its loss may contradict another" in lines


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (run(noisy(falling, 100, 3)), "falls monotonically within its noise"),
        (run(noisy(lambda n: falling(n) + (1.5 if 40 < n < 60 else 0), 100, 3)), "but not monotonically"),
        (run(noisy(lambda _: 3.0, 100, 3)), "does not fall beyond its noise"),
        (run(noisy(falling, 5, 3)), "too short to judge"),
        (run(noisy(falling, 100, 3), validation_loss_after=3.9), "does not carry over"),
        (
            run(noisy(falling, 100, 3), validation_loss_after=3.0, evaluations=[ValidationPoint(step=50, loss=2.0)]),
            "lowest at step 50 (2.000) and rose again",
        ),
    ],
)
def test_each_course_has_its_words(record: RunRecord, said: str) -> None:
    english = " ".join(one.english for one in explain_diagnosis(diagnose(record)))
    assert said in english


def test_an_unfitted_run_does_not_promise_to_find_contradictions() -> None:
    english = " ".join(
        one.english for one in explain_diagnosis(diagnose(run(noisy(falling, 50, 1)), measured(2.0, 2.5, 3.0)))
    )
    assert "contradictions are for `bonsai check` to find" in english
    assert "may contradict" not in english


def test_what_the_card_tells_survives_the_file(tmp_path: Path) -> None:
    diagnosis = diagnose(run(noisy(falling, 50, 1)), measured(2.0, 2.5), {}, FINDINGS)
    facts = DiagnosisFacts(english=("a",), japanese=("あ",), highest=tuple(card_lines(diagnosis)), measured=2)
    save_diagnosis(facts, tmp_path)
    assert load_diagnosis(tmp_path) == facts
    assert load_diagnosis(tmp_path / "nothing") is None
