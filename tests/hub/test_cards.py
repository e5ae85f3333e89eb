"""Validation of card metadata."""

import json

import pytest

from bonsai.hub.server.card_validation import check_card, derived_tags, read_metadata
from bonsai.hub.server.names import RepoKind
from tests.hub.raw_client import RawClient

GOOD_DATASET = """\
license: cc-by-4.0
language: [ja, en, zh]
pretty_name: BONSAI
size_categories: [1K<n<10K]
task_categories: [text-generation, translation]
tags: [bonsai, 盆栽]
created: 2026-11-21
configs:
- config_name: default
  default: true
  data_files:
  - {split: train, path: data/train-*}
  - {split: test, path: [data/test-0, data/test-1]}
- config_name: ja
  data_files: ja/*.parquet
dataset_info:
- config_name: default
  features:
  - {name: id, dtype: string}
  - name: category
    dtype: {class_label: {names: {'0': open_qa}}}
  splits:
  - {name: train, num_bytes: 10, num_examples: 1}
  download_size: 10
  dataset_size: 10
"""


def card(metadata: str) -> str:
    return f"---\n{metadata}\n---\n# Title\n"


def test_a_good_card_passes_without_a_warning() -> None:
    verdict = check_card(card(GOOD_DATASET), RepoKind.DATASET)
    assert (verdict.errors, verdict.warnings) == ([], [])


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ("license: licence", '"license" with value "licence" is not valid'),
        ("license: {a: b}", '"license" must be a string or an array of strings'),
        ("language: English", '"language" with value "English" is not valid'),
        ("language: [ja, JA]", '"language" with value "JA" is not valid'),
        ("language: no", '"language" must be a string or an array of strings'),
        ("tags: bonsai", '"tags" must be an array'),
        ("tags: [1]", '"tags" must be an array of strings'),
        ("size_categories: 1K", '"size_categories" with value "1K" is not valid'),
        ("pretty_name: [a]", '"pretty_name" must be a string'),
        ("configs: {}", '"configs" must be an array of objects'),
        ("configs: [{data_files: a}]", '"configs[0].config_name" is required'),
        ("configs: [{config_name: a}, {config_name: a}]", "must be unique"),
        ("configs: [{config_name: a, default: true}, {config_name: b, default: true}]", "at most one default"),
        ("configs: [{config_name: a, default: 1}]", '"configs[0].default" must be a boolean'),
        ("configs: [{config_name: a, data_files: 3}]", '"configs[0].data_files" must be a string'),
        ("configs: [{config_name: a, data_files: [{split: a-b, path: x}]}]", '"configs[0].data_files[].split"'),
        ("configs: [{config_name: a, data_files: [{split: a, path: 3}]}]", '"configs[0].data_files[].path"'),
        ("dataset_info: text", '"dataset_info" must be an object'),
        ("dataset_info: [{config_name: 3}]", '"dataset_info[0].config_name" must be a string'),
        ("dataset_info: {features: [{dtype: string}]}", '"dataset_info.features[].name" must be a string'),
        ("dataset_info: {splits: {}}", '"dataset_info.splits" must be an array'),
        ("dataset_info: {splits: [{name: a, num_bytes: many}]}", "sizes and counts must be numbers"),
        ("- a", "the metadata must be a mapping"),
        ("a: [", "the metadata is not valid YAML"),
        ("a: 1\na: 2", "duplicated mapping key 'a'"),
        ("a: &x [1]\nb: *x", "uses YAML aliases"),
        ("a: !!python/object/apply:os.system [ls]", "the metadata is not valid YAML"),
    ],
)
def test_a_dataset_card_is_refused_with_the_reason(metadata: str, reason: str) -> None:
    assert any(reason in error for error in check_card(card(metadata), RepoKind.DATASET).errors)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ("base_model: /home/me/phi-2", '"base_model" with value "/home/me/phi-2" is not valid'),
        ("base_model: 3", '"base_model" must be a string'),
        ("base_model_relation: child", '"base_model_relation" must be one of'),
        ("library_name: [peft]", '"library_name" must be a string'),
        ("model-index: {}", '"model-index" must be an array'),
        ("model-index: [{name: a}]", '"model-index[].results" must be an array'),
        ("datasets: {a: b}", '"datasets" must be a string or an array of strings'),
    ],
)
def test_a_model_card_is_refused_with_the_reason(metadata: str, reason: str) -> None:
    assert any(reason in error for error in check_card(card(metadata), RepoKind.MODEL).errors)


@pytest.mark.parametrize(
    ("readme", "reason"),
    [
        ("# Title", "empty or missing yaml metadata"),
        ("", "empty or missing yaml metadata"),
        (card("task_categories: [gardening]"), '"gardening" is not in the official list'),
        (card("licence: mit"), 'spelled "license"'),
    ],
)
def test_smaller_faults_are_only_warned_of(readme: str, reason: str) -> None:
    verdict = check_card(readme, RepoKind.DATASET)
    assert verdict.errors == []
    assert any(reason in warning for warning in verdict.warnings)


@pytest.mark.parametrize("licence", ["cc-by-nc-sa-4.0", "fair-noncommercial-research-license"])
def test_a_licence_and_a_task_with_several_hyphens_are_known(licence: str) -> None:
    verdict = check_card(card(f"license: {licence}\ntask_categories: [zero-shot-classification]"), RepoKind.DATASET)
    assert (verdict.errors, verdict.warnings) == ([], [])


def test_validate_yaml_answers_as_the_clients_expect(ask: RawClient) -> None:
    good = ask("POST", "/api/validate-yaml", {"content": card(GOOD_DATASET), "repoType": "dataset"}, token=None)
    assert (good.status, json.loads(good.body)) == (200, {"errors": [], "warnings": []})
    bad = ask("POST", "/api/validate-yaml", {"content": card("tags: x"), "repoType": "model"})
    assert (bad.status, json.loads(bad.body)["errors"]) == (400, [{"message": '"tags" must be an array'}])


def test_tags_are_derived_as_the_hub_derives_them() -> None:
    dataset = derived_tags(read_metadata(card(GOOD_DATASET)), RepoKind.DATASET)
    assert dataset[:2] == ["bonsai", "盆栽"]
    assert {"language:ja", "license:cc-by-4.0", "size_categories:1K<n<10K", "task_categories:translation"} < set(
        dataset
    )
    model = ["library_name: peft", "language: ja", "base_model: microsoft/phi-2", "base_model_relation: adapter"]
    model += ["datasets: [qeu/bonsai]"]
    assert derived_tags(read_metadata(card("\n".join(model))), RepoKind.MODEL) == [
        "peft",
        "ja",
        "base_model:microsoft/phi-2",
        "dataset:qeu/bonsai",
        "base_model:adapter:microsoft/phi-2",
        "region:us",
    ]


def test_a_date_in_a_card_goes_out_as_it_came_in() -> None:
    assert read_metadata(card(GOOD_DATASET))["created"] == "2026-11-21"
