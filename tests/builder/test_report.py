from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bonsai.builder.checks.base import Finding, Severity
from bonsai.builder.records import SourcedGroup, default_records_dir, read_groups
from bonsai.builder.report import public_location, write_report
from bonsai.builder.schema import CATEGORIES, TextGroup
from bonsai.dataset_card.facts import ConfigFacts, DatasetFacts, LengthFacts

EVIL = "</script><script>alert('盆栽')</script><!-- <script> \u2028 & \" '"

FACTS = DatasetFacts(
    repo_id="me/bonsai",
    version="0.1.0",
    groups=700,
    rows=2100,
    derived_rows=200,
    improved_reasoning=300,
    groups_with={"Chinese": 400},
    languages=["ja", "en", "zh"],
    configs=[ConfigFacts(name="default", description="every row", rows={"train": 1700, "test": 400})],
    category_language={"open_qa": {"ja": 100, "en": 100, "zh": 59}, "creative": {"ja": 100, "en": 100}},
    topics={"food": 400, "bonsai": 300},
    lengths=[LengthFacts(language="ja", median=30, p90=40, longest=60, total=900, histogram=[2, 5, 1])],
    smollm2_lengths=[LengthFacts(language="ja", median=40, p90=50, longest=70, total=999, histogram=[2, 5, 1])],
    probe_kinds={"capital": 3},
    examples=[],
    generators={"somebody": 700},
    metadata={},
)


class Page(HTMLParser):
    """What a browser makes of the page: elements with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self.text: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.raw:
            self._inside = tag
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside][-1] += data
        else:
            self.text.append(data)

    def groups(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.raw["script"][0])
        return found


def finding(group_id: str = "open_qa-0001", **changed: Any) -> Finding:
    made = Finding(
        check="contradiction",
        severity=Severity.ERROR,
        location="builder/records/open_qa.jsonl:1",
        group_id=group_id,
        field="ja.output",
        message="two answers",
        hint="keep the true one",
    )
    return replace(made, **changed)


def planted(located: SourcedGroup) -> SourcedGroup:
    """The group with text in it that would break out of a careless page."""
    group = located.group
    assert isinstance(group, TextGroup)
    evil = group.ja.model_copy(update={"output": EVIL})
    return replace(located, group=group.model_copy(update={"ja": evil, "topic": EVIL}))


@pytest.fixture(scope="module")
def groups() -> list[SourcedGroup]:
    return read_groups(default_records_dir())


def page_of(folder: Path, groups: list[SourcedGroup], findings: list[Finding]) -> Page:
    write_report(folder, groups, findings, FACTS)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_every_group_is_in_the_page_with_its_place_and_all_its_texts(
    tmp_path: Path, groups: list[SourcedGroup]
) -> None:
    shown = {entry["id"]: entry for entry in page_of(tmp_path, groups, []).groups()}
    assert set(shown) == {located.group.id for located in groups}
    for located in groups:
        entry = shown[located.group.id]
        assert entry["place"].endswith(f"{located.path.name}:{located.line}")
        texts = {
            language.value: text.model_dump(exclude={"history"}) for language, text in located.group.texts().items()
        }
        assert {
            name: {field: words for field, words in text.items() if field != "history"}
            for name, text in entry["texts"].items()
        } == texts
    assert any(entry["earlier"] for entry in shown.values())


def test_text_of_a_record_or_a_finding_never_becomes_markup(tmp_path: Path, groups: list[SourcedGroup]) -> None:
    findings = [finding(check=EVIL, message=EVIL, hint=EVIL, field=EVIL, group_id=EVIL, location=EVIL)]
    page = page_of(tmp_path, [planted(groups[0])], findings)
    assert len(page.raw["script"]) == 2
    assert page.groups()[0]["texts"]["ja"]["output"] == EVIL
    assert page.groups()[0]["topic"] == EVIL
    assert sum(EVIL in text for text in page.text) >= 3
    handlers = [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert handlers == []


def test_the_page_allows_its_own_script_and_style_and_nothing_else(tmp_path: Path, groups: list[SourcedGroup]) -> None:
    page = page_of(tmp_path, groups[:2], [finding()])
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for source in (page.raw["script"][1], page.raw["style"][0]):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not any({"src", "style"} & set(attributes) for _, attributes in page.elements)
    links = [attributes["href"] or "" for _, attributes in page.elements if "href" in attributes]
    assert links
    assert all(link.startswith("#") for link in links)
    assert "http" not in page.raw["script"][1] + page.raw["style"][0]


def test_findings_come_before_the_groups_with_errors_first(tmp_path: Path, groups: list[SourcedGroup]) -> None:
    findings = [
        finding(check="spelling", severity=Severity.NOTE, message="a note here"),
        finding(check="language", severity=Severity.WARNING, message="a warning here"),
        finding(message="an error here"),
    ]
    told = " ".join(" ".join(page_of(tmp_path, groups, findings).text).split())
    list_of_groups = told.rindex("All groups 全グループ")
    places = [told.index(text) for text in ("an error here", "a warning here", "a note here")]
    assert places == sorted(places)
    assert places[-1] < list_of_groups
    assert "builder/records/open_qa.jsonl:1" in told


def test_a_group_with_findings_says_which_checks_found_them(tmp_path: Path, groups: list[SourcedGroup]) -> None:
    name = groups[5].group.id
    page = page_of(tmp_path, groups, [finding(name), finding(name), finding(name, check="units")])
    shown = {entry["id"]: entry["checks"] for entry in page.groups()}
    assert shown[name] == ["contradiction", "units"]
    assert shown[groups[6].group.id] == []


def test_the_json_holds_each_finding_and_the_counts(tmp_path: Path, groups: list[SourcedGroup]) -> None:
    page_of(tmp_path, groups, [finding(), finding(severity=Severity.NOTE, check="units")])
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["counts"]["groups"] == len(groups)
    assert report["counts"]["findings"] == {"error": 1, "warning": 0, "note": 1}
    assert report["counts"]["findings_by_check"] == {"contradiction": {"error": 1}, "units": {"note": 1}}
    assert report["counts"]["groups_with_findings"] == 1
    assert report["findings"][0] == {
        "check": "contradiction",
        "severity": "error",
        "place": "builder/records/open_qa.jsonl:1",
        "group_id": "open_qa-0001",
        "field": "ja.output",
        "what": "two answers",
        "why": "keep the true one",
    }


def test_the_same_records_and_findings_give_the_same_bytes(tmp_path: Path, groups: list[SourcedGroup]) -> None:
    pages = []
    for name in ("first", "again"):
        (tmp_path / name).mkdir()
        page_of(tmp_path / name, groups, [finding()])
        pages.append([(tmp_path / name / file).read_bytes() for file in ("report.html", "report.json")])
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("place", "published"),
    [
        ("builder/records/open_qa.jsonl:3", "builder/records/open_qa.jsonl:3"),
        ("/home/somebody/records/open_qa.jsonl:3", "open_qa.jsonl:3"),
        ("C:\\Users\\somebody\\open_qa.jsonl:3", "open_qa.jsonl:3"),
    ],
)
def test_a_published_report_does_not_tell_where_somebody_keeps_their_files(place: str, published: str) -> None:
    assert public_location(place) == published


def test_a_finding_that_names_another_record_does_not_tell_the_folder_either(
    tmp_path: Path, groups: list[SourcedGroup], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(groups[0].path.resolve().parent)
    assert groups[0].location.startswith(folder)
    page_of(
        tmp_path,
        groups[:2],
        [finding(location=groups[0].location, message=f"as in {groups[1].location}", hint=groups[1].location)],
    )
    for name in ("report.html", "report.json"):
        assert folder not in (tmp_path / name).read_text(encoding="utf-8")
    assert "as in open_qa.jsonl:2" in (tmp_path / "report.json").read_text(encoding="utf-8")


def test_the_guideline_and_the_counts_stand_in_the_head(tmp_path: Path, groups: list[SourcedGroup]) -> None:
    page = page_of(tmp_path, groups, [])
    told = " ".join(" ".join(page.text).split())
    assert "Nothing was found." in told
    assert "（最も確からしい）答えが1つだけある。" in told
    assert all(category in told for category in CATEGORIES)
    assert "259" in told
    widths = [float(attributes["width"] or 0) for tag, attributes in page.elements if tag == "rect"]
    assert max(widths) == pytest.approx(100 * 100 / 259, abs=0.01)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on the PATH; the other tests parse the page")
def test_a_browser_runs_the_page_and_follows_a_link_to_a_group(tmp_path: Path, groups: list[SourcedGroup]) -> None:
    page_of(tmp_path, [planted(groups[0]), *groups[1:]], [finding(message=EVIL)])
    shown = groups[3].group.id
    done = subprocess.run(
        [
            "chromium",
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=3000",
            "--dump-dom",
            f"file://{tmp_path}/report.html#{shown}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=90,
    )
    (card,) = re.findall(r'<article class="chosen".*?</article>', done.stdout, re.DOTALL)
    assert shown in card
    assert f"1 of {len(groups)} groups" in done.stdout
