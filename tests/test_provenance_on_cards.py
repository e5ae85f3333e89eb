"""Card and README say who wrote and who read the records, and what the signatures in them bear out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bonsai.builder.bonsai import BonsaiBuilder
from bonsai.builder.card_facts import dataset_facts
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.signatures import sign, standing
from bonsai.dataset_card.card import render
from tests.builder.test_records import group, written

ROOT = Path(__file__).parents[1]
TERMS = "the provider of the model binds its own customers"


def card(folder: Path, *records: dict[str, Any]) -> str:
    """The card of these records, its lines joined as a reader's eye joins them."""
    groups = read_groups(written(folder, *records))
    builder = BonsaiBuilder(groups=groups, cache_dir=str(folder / "cache"))
    builder.download_and_prepare()
    return " ".join(render(dataset_facts(groups, {"default": builder.info}, "qeu/bonsai")).split())


def signed(*signatures: tuple[str, str, str], **changes: Any) -> dict[str, Any]:
    record = group(**changes)
    for language, reader, kind in signatures:
        record = sign(record, language, reader=reader, kind=kind, date="2026-12-01")  # type: ignore[arg-type]
    return record


def test_without_a_signature_the_card_says_that_nobody_has_read(tmp_path: Path) -> None:
    told = card(tmp_path, group(generator="large language model (Claude)"))
    assert "large language model (Claude): 1 groups" in told
    assert "Nobody has signed a reading of these texts yet." in told
    assert "No native speaker has signed any of the Japanese, English or Chinese texts." in told
    assert 'bonsai tend --reader "Your name"' in told
    assert TERMS in told
    assert "training with Claude's output" in told


@pytest.mark.parametrize(
    ("signatures", "nobody"),
    [
        ([("ja", "Sato", "person")], "English or Chinese texts"),
        ([("ja", "Sato", "person"), ("en", "Opus", "model")], "English or Chinese texts"),
        ([("ja", "Opus", "model"), ("en", "Opus", "model")], "Japanese, English or Chinese texts"),
        ([("ja", "Sato", "person"), ("en", "Roe", "person")], "any of the Chinese texts"),
    ],
)
def test_only_a_persons_signature_takes_a_language_off_the_list(
    signatures: list[tuple[str, str, str]], nobody: str, tmp_path: Path
) -> None:
    told = card(tmp_path, signed(*signatures))
    assert "Nobody has signed" not in told
    assert nobody in told.partition("No native speaker has signed ")[2][:50]
    for _, reader, kind in signatures:
        assert f"{reader} (a {'person' if kind == 'person' else 'language model'}): " in told


def test_a_signature_of_a_text_edited_since_counts_for_nothing(tmp_path: Path) -> None:
    record = signed(("ja", "Sato", "person"))
    record["ja"] = {**record["ja"], "output": "利根川です。"}
    told = card(tmp_path, record)
    assert "Nobody has signed a reading of these texts yet." in told
    assert "any of the Japanese, English or Chinese texts" in told


def test_what_people_wrote_has_no_providers_terms(tmp_path: Path) -> None:
    assert TERMS not in card(tmp_path, group(generator="human: Jane Roe"))


def test_the_readme_says_no_more_than_the_signatures() -> None:
    people = {
        reading.language.value
        for located in read_groups(default_records_dir())
        for reading in standing(located.group)
        if reading.kind == "person"
    }
    for name, sentence, languages in (
        ("README.md", "no native speaker has signed them yet", {"ja", "en", "zh"}),
        ("docs/data.md", "no native speaker has signed the records yet", {"ja", "en", "zh"}),
        ("README.ja.md", "日本語を母語とする人の目は、まだ通っていません", {"ja"}),
    ):
        text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
        assert (sentence in text) == (not people & languages), f"{name}: people signed {sorted(people)}"
        assert "bonsai tend --reader" in text, name
