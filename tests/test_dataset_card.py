from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import datasets
import pytest
import yaml
from markdown_it import MarkdownIt

from bonsai.builder.bonsai import CONFIGS, FEATURES
from bonsai.builder.build import BuildResult, build_dataset
from bonsai.builder.checks.run import CHECKS
from bonsai.builder.prompt import to_messages
from bonsai.builder.records import default_records_dir
from bonsai.builder.schema import CATEGORIES
from bonsai.builder.token_counts import count_tokens, load_gpt2_tokenizer
from bonsai.dataset_card.card import GUARDS, GUIDELINE, blockquote, creators, inline
from bonsai.dataset_card.charts import render_charts

REPO = "qeu/bonsai"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuildResult:
    return build_dataset(default_records_dir(), tmp_path_factory.mktemp("card") / "dataset", REPO, check=False)


@pytest.fixture(scope="module")
def card(built: BuildResult) -> str:
    return (built.path / "README.md").read_text(encoding="utf-8")


def blocks(card: str, language: str) -> list[str]:
    """The fenced blocks of a language, as Markdown reads them."""
    tokens = MarkdownIt().parse(card.split("---\n", 2)[2])
    return [token.content for token in tokens if token.type == "fence" and token.info == language]


def run(snippet: str, repo: Path) -> dict[str, Any]:
    """Run a snippet of the card against a build instead of the Hub; its variables."""
    names: dict[str, Any] = {}
    exec(compile(snippet.replace(f'"{REPO}"', repr(str(repo))), "card", "exec"), names)
    return names


def test_the_loading_snippet_runs_on_the_build(built: BuildResult, card: str) -> None:
    names = run(blocks(card, "python")[0], built.path)
    assert sum(names["bonsai"].num_rows.values()) == built.facts.rows
    assert set(names["japanese"]["train"]["language"]) == {"ja"}
    assert [turn["role"] for turn in names["chats"]["train"][0]["messages"]] == ["user", "assistant"]


def test_the_filters_of_the_card_run_on_the_build(built: BuildResult, card: str) -> None:
    (snippet,) = (block for block in blocks(card, "python") if "closed_qa" in block)
    assert max(len(line) for block in blocks(card, "python") for line in block.splitlines()) <= 88
    names = run(snippet, built.path)
    assert set(names["closed_qa"]["category"]) == {CATEGORIES.index("closed_qa")}
    assert set(names["on_bonsai"]["topic"]) == {"bonsai"}
    assert None not in names["improved"]["reasoning_original"]
    assert 0 < len(names["no_derived"]) < len(names["japanese"])
    assert len(names["pairs"]) > 400
    assert names["earlier"]["reasoning"] != names["japanese"]["reasoning"]


def test_the_probes_of_the_card_run_on_the_build(built: BuildResult, card: str) -> None:
    (snippet,) = (block for block in blocks(card, "python") if '"probes"' in block)
    probes = run(snippet, built.path)["probes"]
    assert len(probes) == sum(built.facts.probe_kinds.values())
    assert f"{len(probes)} fixed questions" in card


@pytest.mark.slow
def test_the_trl_snippet_trains(built: BuildResult, card: str, tmp_path: Path) -> None:
    from tests.recipes.tiny import tiny_tokenizer, write_tiny_llama

    model = write_tiny_llama(tmp_path / "tiny")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for turn in messages %}{{ turn['content'] + '<|end|>' }}{% endfor %}"
    tokenizer.save_pretrained(model)
    (snippet,) = (block for block in blocks(card, "python") if "SFTTrainer" in block)
    small = snippet.replace('"HuggingFaceTB/SmolLM2-135M-Instruct"', repr(str(model))).replace(
        'output_dir="my-bonsai"',
        f"output_dir={str(tmp_path / 'out')!r}, max_steps=2, report_to='none', use_cpu=True, bf16=False",
    )
    assert small.count(str(tmp_path)) == 2
    trainer = run(small, built.path)["trainer"]
    assert trainer.state.global_step == 2
    masked = next(iter(trainer.get_train_dataloader()))["labels"]
    assert (masked == -100).any()


@pytest.mark.slow
def test_the_preference_snippet_trains(built: BuildResult, card: str, tmp_path: Path) -> None:
    from bonsai.builder.prompt import CHAT_TEMPLATE
    from tests.recipes.tiny import tiny_tokenizer, write_tiny_llama

    model = write_tiny_llama(tmp_path / "tiny")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(model)
    (snippet,) = (block for block in blocks(card, "python") if "DPOTrainer" in block)
    small = snippet.replace('"HuggingFaceTB/SmolLM2-135M-Instruct"', repr(str(model))).replace(
        'output_dir="my-preference"',
        f"output_dir={str(tmp_path / 'out')!r}, max_steps=1, report_to='none', use_cpu=True, bf16=False, "
        "per_device_train_batch_size=2",
    )
    assert small.count(str(tmp_path)) == 2
    names = run(small, built.path)
    assert names["trainer"].state.global_step == 1
    # what the trainer made of a pair is what an adapter of this project is asked with and answers
    pair, made = names["pairs"]["train"][0], next(iter(names["trainer"].train_dataset))
    prompt, chosen, rejected = (tokenizer.decode(made[name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    question = pair["prompt"][-1]["content"]
    assert prompt == f"### Instruction:\n{question}\n\n### Reasoning:\n"
    for answer, completion in ((pair["chosen"], chosen), (pair["rejected"], rejected)):
        assert answer[0]["content"].removeprefix("### Reasoning:\n") + "<|end|>" == completion
    assert chosen.split("### Response:")[1] == rejected.split("### Response:")[1]


def test_the_axolotl_and_llama_factory_blocks_name_what_the_build_holds(built: BuildResult, card: str) -> None:
    (axolotl,) = blocks(card, "yaml")
    settings = yaml.safe_load(axolotl)
    (factory,) = blocks(card, "json")
    entry = json.loads(factory)["bonsai"]
    for repo, config, split, column in (
        *((d["path"], d["name"], d["split"], d["field_messages"]) for d in settings["datasets"]),
        *((d["path"], d["name"], d["split"], d["field_messages"]) for d in settings["test_datasets"]),
        (entry["hf_hub_url"], entry["subset"], entry["split"], entry["columns"]["messages"]),
    ):
        assert repo == REPO
        turns = datasets.load_dataset(str(built.path), config, split=split)[0][column]
        assert [turn[entry["tags"]["role_tag"]] for turn in turns] == [
            entry["tags"]["user_tag"],
            entry["tags"]["assistant_tag"],
        ]
        assert turns[1][entry["tags"]["content_tag"]].startswith("### Re")
    assert isinstance(settings["learning_rate"], float)


def test_the_guideline_stands_in_three_languages(card: str) -> None:
    assert tuple(GUIDELINE) == CATEGORIES
    for category, rule in GUIDELINE.items():
        assert f"- {category}：{rule['ja']}" in card
        assert f"- {category}：{rule['zh']}" in card
        assert f"- `{category}`: {rule['en']}" in card


def test_the_card_names_the_checks_that_run(card: str) -> None:
    assert list(GUARDS) == [*CHECKS, "decontamination"]
    for name, against in GUARDS.items():
        assert f"| {name} | {against} |" in card


def test_one_row_of_each_category_is_shown_and_somebody_wrote_it(built: BuildResult, card: str) -> None:
    assert [example.category for example in built.facts.examples] == list(CATEGORIES)
    rows = {row["id"]: row for row in datasets.load_dataset(str(built.path), split="train+validation+test")}
    for example in built.facts.examples:
        assert rows[example.id]["output"] == example.output
        assert not rows[example.id]["source"].startswith("derived")
        assert f"`{example.id}`" in card


def test_no_section_is_empty_and_nothing_is_left_to_fill_in(card: str) -> None:
    tokens = MarkdownIt().enable("table").parse(card.split("---\n", 2)[2])
    headings = [number for number, token in enumerate(tokens) if token.type == "heading_open"]
    for number in headings:
        after = tokens[number + 3] if number + 3 < len(tokens) else None
        deeper = after is not None and after.type == "heading_open" and after.tag > tokens[number].tag
        assert after is not None, tokens[number + 1].content
        assert after.type != "heading_open" or deeper, tokens[number + 1].content
    prose = "".join(token.content for token in tokens if token.type == "inline")
    for left in ("TODO", "[More Information", "{{", "{%", "None", "XXX"):
        assert left not in prose, left
    titles = {tokens[number + 1].content for number in headings}
    assert {"Known limits", "Found a bug?", "Provenance and licence", "日本語", "中文"} <= titles


def test_every_table_row_has_as_many_cells_as_its_head(card: str) -> None:
    tables = re.findall(r"(?:^\|.*\|\s*$\n)+", card, re.MULTILINE)
    assert len(tables) == 6
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}
        assert len(cells) == 1, table


def test_every_link_inside_the_repo_leads_somewhere(built: BuildResult, card: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", card)
    headings = re.findall(r"^#+ (.*)$", card, re.MULTILINE)
    anchors = {"#" + heading.lower().replace(" ", "-").strip("?") for heading in headings}
    written = set(render_charts(built.facts)) | {"report.html", "report.json"}
    assert {link for link in links if link.startswith("images/")} == set(render_charts(built.facts))
    assert {link for link in links if link not in anchors} <= written


def test_the_counts_of_the_card_are_those_of_the_build(built: BuildResult, card: str) -> None:
    facts = built.facts
    assert sum(sum(row.values()) for row in facts.category_language.values()) == facts.rows
    assert sum(facts.topics.values()) == facts.groups
    assert [sum(part.histogram) for part in facts.lengths] == [
        sum(row.get(part.language, 0) for row in facts.category_language.values()) for part in facts.lengths
    ]
    assert f"{facts.derived_rows} of {facts.rows} rows" in card
    assert set(CONFIGS) == {config.name for config in facts.configs}


def test_the_pictures_are_well_formed_and_hold_every_name(built: BuildResult) -> None:
    drawn = render_charts(built.facts)
    assert drawn == render_charts(built.facts)
    for name, svg in drawn.items():
        root = ElementTree.fromstring(svg)
        width, height = (float(root.attrib[side]) for side in ("width", "height"))
        for box in root.iter("{http://www.w3.org/2000/svg}rect"):
            assert float(box.get("x", 0)) + float(box.attrib["width"]) <= width, name
            assert float(box.get("y", 0)) + float(box.attrib["height"]) <= height, name
        assert len(svg) < 20_000
    told = "".join(ElementTree.fromstring(drawn["images/topics.svg"]).itertext())
    assert all(topic in told for topic in built.facts.topics)
    told = "".join(ElementTree.fromstring(drawn["images/category-language.svg"]).itertext())
    assert all(category.replace("_", " ") in told for category in CATEGORIES)


def test_lengths_are_counted_with_the_tokenizer_of_gpt2() -> None:
    assert load_gpt2_tokenizer().encode("Hello world").ids == [15496, 995]
    assert load_gpt2_tokenizer().encode("日本").ids == [33768, 98, 17312, 105]
    assert count_tokens(["Hello world", "", "日本"]) == [2, 0, 4]
    text = "盆栽は  小さな木です。\n\n🌳 It's a tree."
    assert load_gpt2_tokenizer().decode(load_gpt2_tokenizer().encode(text).ids) == text


def test_a_length_is_that_of_the_text_a_trainer_sees(built: BuildResult) -> None:
    rows = datasets.load_dataset(str(built.path), "en", split="train+validation+test")
    texts = [
        "\n\n".join(
            turn["content"]
            for turn in to_messages(r["instruction"], r["input"], r["reasoning"], r["output"], r["history"])
        )
        for r in rows
    ]
    (english,) = (part for part in built.facts.lengths if part.language == "en")
    counted = count_tokens(texts)
    assert (english.total, english.longest) == (sum(counted), max(counted))
    assert sum(tokens <= english.p90 for tokens in counted) >= 0.9 * len(counted)


def test_a_quoted_text_shows_as_it_stands_whatever_it_holds(built: BuildResult) -> None:
    rows = datasets.load_dataset(str(built.path), split="train+validation+test")
    hard = ["1. a\n2) b\n\n- c\n+ d\n===\n# e\n> f\n    g", "*a* _b_ `c` <i> &amp; [d](e) ~~f~~ | g \\"]
    for text in [*hard, *rows["instruction"], *rows["input"], *rows["reasoning"], *rows["output"]]:
        tokens = MarkdownIt().enable(["table", "strikethrough"]).parse(blockquote(text))
        kinds = {token.type.removesuffix("_open").removesuffix("_close") for token in tokens}
        assert kinds <= {"blockquote", "paragraph", "inline"}, text
        pieces = [piece for token in tokens for piece in [*(token.children or []), None]]
        shown = "".join("\n" if p is None or p.type == "hardbreak" else p.content for p in pieces)
        assert "".join(shown.split()) == "".join(text.split())
        lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
        assert [line for line in shown.splitlines() if line] == lines


def test_a_generators_name_cannot_become_markup() -> None:
    assert inline("a|b <img> `c` [d](e)\nf") == r"a\|b \<img\> \`c\` \[d\](e) f"


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning")  # mlcroissant on rdflib 7
def test_croissant_json_is_valid_and_names_every_column(dataset: Path) -> None:
    import mlcroissant

    described = mlcroissant.Dataset(str(dataset / "croissant.json"))
    assert not described.metadata.ctx.issues.errors
    assert not described.metadata.ctx.issues.warnings
    records = {
        record_set.name: [field.name for field in record_set.fields] for record_set in described.metadata.record_sets
    }
    assert set(records) == set(CONFIGS)
    assert records["default"] == list(FEATURES)
    assert "messages" in records["messages"]


def test_smollm2_is_counted_as_its_own_tokenizer_counts() -> None:
    from transformers import AutoTokenizer

    from bonsai.recipes.seedling import RECIPE
    from bonsai.recipes.training.gguf import packaged_gguf, split_digits

    gguf = packaged_gguf(RECIPE)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    split_digits(tokenizer)
    texts = ["367 km, in 1990. It's 2.5%", "日本でいちばん長い川は何ですか。", "最长的河流\n\n### Reasoning:\n"]
    assert count_tokens(texts, "smollm2") == [len(tokenizer(text).input_ids) for text in texts]


@pytest.mark.parametrize(
    ("generators", "found"),
    [
        (["large language model (Claude), second reading by another"], ["machine-generated"]),
        (["human: an editor who is a native speaker"], ["expert-generated"]),
        (["gpt-4.1", "not named: the author of notes.csv"], ["machine-generated", "expert-generated"]),
    ],
)
def test_the_card_says_who_wrote_it(generators: list[str], found: list[str]) -> None:
    assert creators(generators) == found
