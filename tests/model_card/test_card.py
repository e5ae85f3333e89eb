from __future__ import annotations

import ast
import dataclasses
import re

import pytest
from huggingface_hub import ModelCard

from bonsai.hub.server.card_validation import check_card
from bonsai.hub.server.names import RepoKind
from bonsai.model_card import card as model_card_card
from bonsai.model_card.card import downsample_losses, is_edited, render
from bonsai.model_card.facts import AdapterFacts, LossRow
from bonsai.model_card.linter import lint_card, sections
from bonsai.model_card.metadata import footprint
from tests.model_card.facts import BARE, FULL

BOTH = pytest.mark.parametrize("facts", [BARE, FULL], ids=["bare", "full"])


@BOTH
def test_a_rendered_card_is_clean_and_the_hub_takes_it(facts: AdapterFacts) -> None:
    card = render(facts)
    assert lint_card(card, facts) == []
    verdict = check_card(card, RepoKind.MODEL)
    assert (verdict.errors, verdict.warnings) == ([], [])


def test_the_metadata_says_what_the_hub_filters_by() -> None:
    data = ModelCard(render(FULL)).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "peft", "text-generation")
    assert (data.base_model, data.get("base_model_relation")) == ("me/base", "adapter")
    assert data.datasets == ["me/bonsai"]
    assert data.language == ["ja", "en"]
    assert data.metrics == ["loss", "f1"]
    assert "base_model:adapter:me/base" in (data.tags or [])
    loss, score = data.eval_results or []
    assert (loss.metric_value, loss.dataset_split, loss.dataset_revision) == (2.25, "validation", "d" * 40)
    assert (score.metric_value, score.dataset_split, score.dataset_revision) == (0.5, "test", "d" * 40)
    emitted = data.get("co2_eq_emissions")
    assert emitted["emissions"] == round(70 * 100 / 3_600_000 * 473, 2)
    assert "70 W (the T4's rating)" in emitted["source"]


def test_a_card_without_data_leaves_the_sections_out_and_the_facts_say_which() -> None:
    titles = {section.title for section in sections(render(FULL))}
    fewer = {section.title for section in sections(render(BARE))}
    assert titles - fewer == {"The loss judged", "Before and after", "Probes"}
    assert fewer <= titles
    assert BARE.missing[:2] == ["the loss judged in words", "scores and probe answers before and after"]
    assert FULL.missing == []
    for word in ("None", "energy", "USD", "validation loss |", "SHA-256 `e"):
        assert word not in render(BARE), word


def test_the_numbers_of_the_run_are_on_the_card() -> None:
    card = render(FULL)
    for told in (
        "1,234,567",
        "120 tokens/s",
        "b" * 40,
        "d" * 40,
        "| 100, 40, 12,000 |",
        "| energy, estimated | 0.0019 kWh |",
        "| cost | 0.01 USD |",
        "0.40 USD an hour (a price list)",
        "| 20 | 3.000 | 1.0e-03 | 6,000 | 2.500 |",
        "| classification | 20 | 20 |",
        "| `open_qa-0067-en` | `open_qa.jsonl:67` | 2.75 | contradiction: Nickel \\| Chromium |",
        "| open_qa | ja | F1 | 12 | 0.25 | 0.50 | +0.05 to +0.45 |",
        "| classification | en | label right | 9 | 0.60 | 0.50 |  |",
        "Of the 1 probes that have a right answer, the base model got 0, the adapter\n1.",
        "| 日本で一番高い山は？ | 富士山 | ✗ エベレスト \\| None | ✓ 富士山です。 |",
        "step 40, whose validation loss was the lowest",
    ):
        assert told in card, told


def test_a_long_answer_is_cut_in_the_table() -> None:
    row = next(line for line in render(FULL).splitlines() if line.startswith("| Tell a story"))
    assert row.endswith("… |")
    assert len(row) < 250


def test_a_record_with_a_code_fence_stays_in_its_block() -> None:
    assert f"````text\n{FULL.samples[0]}\n````" in render(FULL)


def test_the_loss_table_keeps_the_first_and_the_last_step_and_every_evaluation() -> None:
    rows = [LossRow(n, 1.0, 1e-3, n) for n in range(1, 61)]
    shown = downsample_losses(rows)
    assert (shown[0].step, shown[-1].step, len(shown)) == (1, 60, 12)
    assert 37 in {row.step for row in downsample_losses(rows, {37: 2.0})}
    assert downsample_losses(rows[:5]) == rows[:5]


@pytest.mark.parametrize(
    ("device", "watts"),
    [("Tesla T4", 70), ("NVIDIA H100 80GB HBM3", 700), ("NVIDIA A100-SXM4-80GB", 400), ("CPU", 65)],
)
def test_energy_is_stated_power_times_time(device: str, watts: float) -> None:
    told = footprint(device, 3600)
    assert told is not None
    assert (told.watts, told.kwh) == (watts, watts / 1000)
    assert str(watts) in told.method


def test_no_energy_is_claimed_for_an_unknown_device() -> None:
    assert footprint("NVIDIA L40S", 3600) is None


def shell_block(facts: AdapterFacts, program: str) -> str:
    blocks = re.findall(r"^```bash\n(.*?)^```$", render(facts), re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if program in block)


def test_the_python_snippets_are_peft_pipeline_and_merge_and_parse() -> None:
    peft, pipeline, merge = model_card_card.python_snippets(render(FULL))
    assert "model.generate(**prompt, max_new_tokens=256" in peft
    assert 'pipeline("text-generation", model=adapter, tokenizer=adapter)' in pipeline
    assert "merge_and_unload().save_pretrained(merged)" in merge
    for text in (peft, pipeline, merge):
        ast.parse(text)


def test_llama_cpp_is_given_the_gguf_adapter_or_told_how_to_make_it() -> None:
    assert "--lora bonsai-seedling-f16.gguf" in shell_block(FULL, "llama.cpp")
    assert "convert_lora_to_gguf.py" not in shell_block(FULL, "llama.cpp")
    assert "convert_lora_to_gguf.py --base base --outfile bonsai-seedling.gguf" in shell_block(BARE, "llama.cpp")


def test_vllm_is_given_the_base_its_revision_and_the_adapters_template() -> None:
    text = shell_block(FULL, "vllm serve")
    assert "vllm serve me/base --revision v1.0" in text
    assert "--enable-lora --lora-modules bonsai=me/bonsai-seedling" in text
    assert "--chat-template bonsai-seedling/chat_template.jinja" in text


@BOTH
def test_no_snippet_sets_a_repetition_penalty(facts: AdapterFacts) -> None:
    card = render(facts)
    found = re.findall(r"repe(?:tition|at)[_-]penalty\W{1,3}([\d.]+)", card)
    assert len(found) == 6
    assert {float(value) for value in found} == {1.0}


def test_only_english_is_barred_from_short_runs() -> None:
    sizes = [model_card_card.generation(spoken)["no_repeat_ngram_size"] for spoken in (("en",), ("ja",), ("ja", "en"))]
    assert sizes == [12, 24, 24]


def test_an_adapter_trained_on_a_gpu_is_loaded_in_float16() -> None:
    text = model_card_card.python_snippets(render(dataclasses.replace(FULL, compute_dtype="float16")))[0]
    assert 'dtype=torch.float16, device_map="auto"' in text
    assert "**prompt.to(model.device)" in text
    ast.parse(text)


def test_a_card_before_its_evaluation_says_what_is_missing() -> None:
    told = "**Not evaluated yet**: `bonsai evaluate seedling`"
    card = render(BARE)
    assert told in card
    assert "まだ評価していません" in card
    assert f"{', '.join(BARE.missing)}." in card
    assert told not in render(FULL)


def test_a_card_before_publishing_promises_the_commit_and_names_the_tag() -> None:
    unpublished = dataclasses.replace(FULL, dataset_commit=None)
    card = render(unpublished)
    assert "its commit is looked up when this adapter is published" in card
    assert "datasets/me/bonsai/tree/v0.1.0" in card
    assert lint_card(card, unpublished) == []


@BOTH
def test_an_edited_card_is_told_from_a_rendered_one(facts: AdapterFacts) -> None:
    card = render(facts)
    assert not is_edited(card)
    for edited in (
        card.replace("Reasoning", "Thinking", 1),
        card + "\nMine.\n",
        card.rpartition("<!--")[0],
        "# Mine\n",
        "",
    ):
        assert is_edited(edited)


def test_the_authors_are_those_that_the_rows_name() -> None:
    card = render(dataclasses.replace(FULL, generators={"a person | <b>": 60, "a model": 40}))
    assert "by the dataset's column `generator`: a person \\| \\<b\\> (60), a model (40)." in card
    assert "a person \\| \\<b\\>（60行）、a model（40行）" in card
    for facts in (BARE, FULL):
        assert "hand-tended" not in render(facts)
        assert "手作業" not in render(facts)


def test_a_beginning_of_the_prompt_is_on_the_card() -> None:
    facts = dataclasses.replace(FULL, prompt_beginning="<s>", prompt=f"<s>{FULL.prompt}")
    card = render(facts)
    assert "It begins with \\<s\\>, which the base's tokenizer puts before every text" in card
    assert "<s>### Instruction:" in card
    assert "It begins with" not in render(FULL)
    assert lint_card(card, facts) == []


@BOTH
def test_the_shell_snippets_parse(facts: AdapterFacts) -> None:
    import subprocess

    for block in re.findall(r"^```bash\n(.*?)^```$", render(facts), re.MULTILINE | re.DOTALL):
        subprocess.run(["bash", "-n", "-c", block], check=True)


def test_the_command_survives_another_namespace() -> None:
    named = dataclasses.replace(BARE, command="export BONSAI_NAMESPACE=me && nox -s train -- seedling")
    assert named.command in render(named)
