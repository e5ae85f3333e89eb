"""What speaks against a release: keys, personal data, paths, pickles, records that were changed after the build."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bonsai.builder.records import default_records_dir
from bonsai.builder.release import dataset_preflight, dataset_release, find_private_text, find_unsafe_weights
from bonsai.hub.publish import PreflightError, run_preflight

TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh"


def table(**columns: list[object]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def torch_like_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    return buffer.getvalue()


def safetensors(header: dict[str, object], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


WHOLE = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("README.md", f"export HF_TOKEN={TOKEN}".encode(), r"README.md holds an access token \(hf_A…\)"),
        ("README.md", "問い合わせは taro@bonsai-lovers.jp まで".encode(), "looks like a mail address"),
        ("a.parquet", table(output=["x", f"my key is {TOKEN}"]), "a.parquet holds an access token"),
        ("m.parquet", table(messages=[[{"content": f"key {TOKEN}"}]]), "m.parquet holds an access token"),
        ("training/run.json", b'{"output_dir": "/home/taro/bonsai/out"}', "holds '/home/taro', a path of this machine"),
        ("x.csv", rb"C:\Users\taro\out", "a path of this machine"),
    ],
)
def test_what_is_private_is_found(name: str, content: bytes, told: str) -> None:
    (reason,) = find_private_text({name: content})
    assert re.search(told, reason), reason
    assert TOKEN not in reason


def test_the_value_of_a_token_in_the_environment_is_found_in_any_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_HUB_TOKEN", "plain-looking-words")
    reasons = list(find_private_text({"weights.dat": b"\0\1 plain-looking-words \2"}))
    assert reasons == ["weights.dat holds the value of MY_HUB_TOKEN; take it out"]


def test_the_published_files_hold_nothing_private(dataset: Path) -> None:
    assert list(find_private_text(dataset_release(dataset, "qeu/bonsai").files)) == []


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("training_args.bin", b"anything", "is a pickle"),
        ("innocent.dat", b"\x80\x04\x95 pickle", "is a pickle"),
        ("weights.dat", torch_like_zip(), "is a pickle"),
        ("adapter_model.safetensors", b"\x80\x02", "is a pickle"),
        ("adapter_model.safetensors", b"abc", "its header is longer than the file"),
        ("adapter_model.safetensors", safetensors(WHOLE, b"\0" * 3), "bytes, where its header says"),
        ("adapter_model.safetensors", (9).to_bytes(8, "little") + b"not json!", "its header cannot be read"),
    ],
)
def test_weights_that_run_code_or_are_torn_are_refused(name: str, content: bytes, told: str) -> None:
    (reason,) = find_unsafe_weights({name: content})
    assert told in reason


def test_whole_safetensors_pass() -> None:
    assert list(find_unsafe_weights({"adapter_model.safetensors": safetensors(WHOLE, b"\0" * 4)})) == []


def against(dataset: Path, records: Path) -> list[str]:
    try:
        run_preflight("the dataset", dataset_preflight(dataset_release(dataset, "qeu/bonsai"), dataset, records))
    except PreflightError as error:
        return list(error.reasons)
    return []


def test_a_build_of_these_records_passes(dataset: Path) -> None:
    assert against(dataset, default_records_dir()) == []


def test_records_that_were_changed_after_the_build_are_named(dataset: Path, tmp_path: Path) -> None:
    records = shutil.copytree(default_records_dir(), tmp_path / "records")
    path = records / "open_qa.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    changed = json.loads(lines[3])
    changed["en"]["output"] += " Indeed."
    path.write_text("\n".join([json.dumps(changed), *lines[:3], *lines[5:]]) + "\n", encoding="utf-8")
    (reason,) = against(dataset, records)
    assert "records differ from what was built, in open_qa-0004, open_qa-0005; run `nox -s build` again" in reason


def test_everything_is_told_at_once(dataset: Path, tmp_path: Path) -> None:
    built = shutil.copytree(dataset, tmp_path / "dataset")
    report = json.loads((built / "report.json").read_text(encoding="utf-8"))
    report["counts"]["findings"]["error"] = 2
    (built / "report.json").write_text(json.dumps(report), encoding="utf-8")
    (built / "notes.txt").write_text(f"token {TOKEN}")
    (built / "state.pt").write_bytes(b"x")
    reasons = against(built, default_records_dir())
    assert [reason.partition(":")[0] for reason in reasons] == ["checks", "private", "weights"]
    assert "counts 2 errors in the records" in reasons[0]
