"""The desk in a browser, driven as a person does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bonsai.builder.desk.desk import Desk
from bonsai.builder.editing import GroupChange, change_groups, read_lines
from bonsai.builder.records import read_groups
from bonsai.builder.samples import read_samples
from tests.builder.test_editing import contents, differing
from tests.desk.conftest import check_everything, served
from tests.recipes.inference.chromium import Tab, chromium, needs_chromium

pytestmark = needs_chromium
EVIL = "<img src=x onerror=\"document.title='evil'\"></textarea><script>document.title='evil'</script>"
FIELD = "document.querySelector('[data-field=\"{}\"]')"
TOAST = "document.getElementById('toast').textContent"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab, desk: Desk, tmp_path: Path) -> Iterator[Tab]:
    """The page, with the first group open; at the end nothing may have gone wrong unseen."""
    browser.complaints.clear()
    browser.dialogs.clear()
    with served(desk, tmp_path) as address:
        browser.address = address  # type: ignore[attr-defined]
        opened(browser)
        yield browser
        assert [one for one in browser.complaints if "409" not in one] == []
        browser.open("about:blank")


def opened(tab: Tab, query: str = "?language=en", width: int = 1280) -> None:
    tab.open(tab.address + query, width=width)  # type: ignore[attr-defined]
    tab.wait("document.querySelectorAll('.row').length > 3")
    if width > 500:
        tab.wait("document.querySelector('#group h2')?.textContent === 'open_qa-0001'")


def named(tab: Tab) -> str:
    return str(tab.value("document.querySelector('#group h2')?.textContent"))


def write(tab: Tab, field: str, text: str) -> None:
    """Replace what is in a field by typing."""
    box = FIELD.format(field)
    tab.value(f"{box}.focus(), {box}.select()")
    tab.type(text)


def test_an_edit_is_checked_while_it_is_typed_and_saved_as_one_line(tab: Tab, records: Path) -> None:
    before = contents(records)
    tab.value("document.getElementById('category').value = 'brainstorming'")
    tab.value("document.getElementById('category').dispatchEvent(new Event('change'))")
    tab.press("Enter")
    tab.wait("document.querySelector('#group h2').textContent === 'brainstorming-0001'")
    write(tab, "en.output", "1. Tea\n2. Cake\n4. Bread")
    tab.wait("document.querySelector('[data-findings=\"en.output\"]').textContent.includes('numbered [1, 2, 4]')")
    assert tab.value("document.querySelector('[data-counts=\"en.output\"]').textContent").endswith("items 3 · digits 3")
    assert contents(records) == before
    tab.press("s", ctrl=True)
    tab.wait(f"{TOAST} === 'saved brainstorming-0001'")
    after = contents(records)
    assert [name for name in before if before[name] != after[name]] == ["brainstorming.jsonl"]
    assert differing(before["brainstorming.jsonl"], after["brainstorming.jsonl"]) == [1]
    assert read_lines(records)["brainstorming-0001"].record["en"]["output"] == "1. Tea\n2. Cake\n4. Bread"


def test_undo_brings_the_text_back_to_file_and_page(tab: Tab, records: Path) -> None:
    before = contents(records)
    write(tab, "ja.output", "別の湖です。")
    tab.press("s", ctrl=True)
    tab.wait(f"{TOAST} === 'saved open_qa-0001'")
    tab.press("Escape", "u")
    tab.wait(f"{TOAST} === 'undone: edit open_qa-0001'")
    assert contents(records) == before
    tab.wait(f"{FIELD.format('ja.output')}.value.includes('琵琶湖')")


def test_a_signature_turns_stale_before_ones_eyes(tab: Tab, records: Path) -> None:
    tab.press("1")  # without a name nobody signs
    tab.wait(f"{TOAST}.includes('Say who reads')")
    tab.type("Sato")
    tab.press("Escape", "1")
    tab.wait("document.querySelector('dialog.sign')?.open")
    tab.press("f")
    tab.wait("document.querySelector('#row-open_qa-0001 .mark.fine')")
    (reading,) = read_lines(records)["open_qa-0001"].record["read"]
    assert (reading["language"], reading["reader"], reading["kind"], reading["verdict"]) == (
        "ja",
        "Sato",
        "person",
        "fine",
    )
    tab.wait("document.querySelector('.language.ja .signatures').textContent.includes('Sato (person')")

    tab.press("2", "x")  # a fault in the English, with words
    tab.wait("document.querySelector('dialog fieldset select') === document.activeElement")
    tab.value("document.querySelector('dialog textarea').focus()")
    tab.type("The lake is salt.")
    tab.press("Enter")
    tab.wait("document.querySelector('#row-open_qa-0001 .mark.fault')")
    assert read_lines(records)["open_qa-0001"].record["read"][1]["words"] == "The lake is salt."

    write(tab, "ja.output", "別の湖です。")
    tab.press("s", ctrl=True)
    tab.wait("document.querySelector('#row-open_qa-0001 .mark.stale')")
    tab.wait("document.querySelector('.language.ja .signatures').textContent.includes('edited since Sato read it')")


def test_an_unsaved_text_is_not_signed(tab: Tab) -> None:
    tab.value("document.getElementById('reader').value = 'Sato'")
    write(tab, "ja.output", "別の湖です。")
    tab.press("Escape", "1")
    tab.wait(f"{TOAST}.includes('Save your changes first')")
    assert not tab.value("document.querySelector('dialog').open")


@pytest.mark.parametrize("choice", ["t", "m"])
def test_a_conflict_shows_both_versions_and_writes_neither(tab: Tab, records: Path, choice: str) -> None:
    write(tab, "en.output", "My words.")
    line = read_lines(records)["open_qa-0001"]
    theirs = {**line.record, "en": {**line.record["en"], "output": "Their words."}}
    change_groups(records, [GroupChange(read=line, record=theirs)], note="theirs")
    before = contents(records)
    tab.press("s", ctrl=True)
    tab.wait("document.querySelector('dialog.conflict')?.open")
    cells = tab.value(
        "[...document.querySelectorAll('dialog tbody tr')].map(r => [...r.children].map(c => c.textContent))"
    )
    assert cells == [["en.output", "My words.", "Their words."]]
    assert contents(records) == before
    tab.press(choice)
    kept = "Their words." if choice == "t" else "My words."
    tab.wait(f"!document.querySelector('dialog').open && {FIELD.format('en.output')}.value === '{kept}'")
    tab.press("s", ctrl=True)
    if choice == "m":
        tab.wait(f"{TOAST} === 'saved open_qa-0001'")
    assert read_lines(records)["open_qa-0001"].record["en"]["output"] == kept


def test_what_is_typed_survives_a_look_at_another_group(tab: Tab, records: Path) -> None:
    write(tab, "en.output", "Not yet saved.")
    tab.press("Escape", "j")
    tab.wait("document.querySelector('#group h2').textContent === 'open_qa-0002'")
    assert "•" in tab.value("document.querySelector('#row-open_qa-0001 .name').textContent")
    tab.press("k")
    tab.wait(f"{FIELD.format('en.output')}.value === 'Not yet saved.'")
    assert read_lines(records)["open_qa-0001"].record["en"]["output"] != "Not yet saved."


def test_a_change_from_outside_reaches_an_open_group_that_is_not_being_edited(tab: Tab, records: Path) -> None:
    line = read_lines(records)["open_qa-0001"]
    theirs = {**line.record, "en": {**line.record["en"], "output": "From outside."}}
    change_groups(records, [GroupChange(read=line, record=theirs)], note="theirs")
    tab.wait(f"{FIELD.format('en.output')}.value === 'From outside.'")


def test_a_blind_sample_with_nothing_but_the_keyboard(tab: Tab, records: Path) -> None:
    tab.value("document.getElementById('reader').value = 'Sato'")
    tab.press("b")
    tab.wait("document.querySelector('dialog.offer')?.open")
    tab.type("5")
    tab.press("Enter")  # in the field: nothing happens yet
    tab.value("document.querySelector('dialog .main').focus()")
    tab.press("Enter")
    tab.wait("document.querySelector('dialog.blind')?.open")
    shown = tab.value("document.querySelector('dialog').innerText")
    assert shown.startswith("1 of 5")
    assert not any(located.group.id in shown for located in read_groups(records))
    first = tab.value("document.querySelector('dialog article').innerText")
    tab.press("f")
    tab.wait("document.querySelector('dialog h2').textContent === '2 of 5'")
    tab.press("ArrowLeft")  # and back
    tab.wait("document.querySelector('dialog h2').textContent === '1 of 5'")
    assert tab.value("document.querySelector('dialog article').innerText") == first
    tab.press("f", "x")
    tab.wait("document.activeElement.name === 'fault'")
    tab.value("document.querySelector('dialog textarea').focus()")
    tab.type("A wrong number.")
    tab.press("Enter")
    tab.wait("document.querySelector('dialog h2').textContent === '3 of 5'")

    opened(tab)  # the browser was closed in between
    tab.value("document.getElementById('reader').value = 'Sato'")
    tab.press("b")
    tab.wait("document.querySelector('dialog .resume')").__bool__()
    tab.click("document.querySelector('dialog .resume')")
    tab.wait("document.querySelector('dialog h2').textContent === '3 of 5'")
    tab.press("f", "f", "f")
    tab.wait("document.querySelector('dialog .result')")
    result = tab.value("document.querySelector('dialog .result').textContent")
    assert result == "1 of 5 texts with a fault: 20.0 % (95 % interval 0.5 to 71.6 %)"
    (kept,) = read_samples(records)
    assert (kept.reader, kept.size, kept.faults) == ("Sato", 5, 1)
    assert sum(len(located.group.read) for located in read_groups(records)) == 5
    tab.press("Escape", "r")
    tab.wait("document.querySelector('dialog.readings')?.innerText.includes('1 (20.0 %)')")
    tab.press("Escape")


def test_the_keyboard_reaches_everything(tab: Tab, records: Path, tmp_path: Path) -> None:
    tab.press("?")
    tab.wait("document.querySelector('dialog.help')?.open")
    tab.press("Escape", "j", "j")
    tab.wait("document.querySelector('#group h2').textContent === 'open_qa-0003'")
    tab.press("/")
    tab.type("琵琶湖")
    tab.wait("document.getElementById('shown').textContent === '1 of 56 groups'")
    tab.press("Escape", "e")
    tab.wait("document.activeElement.dataset.field === 'ja.instruction'")
    assert named(tab) == "open_qa-0001"
    tab.press("Escape", "d", "Enter")
    tab.wait(f"{TOAST}.includes('is in the drafts now')")
    assert "open_qa-0001" not in read_lines(records)
    assert (tmp_path / "drafts" / "open_qa.jsonl").exists()
    tab.press("u")
    tab.wait(f"{TOAST}.startsWith('undone')")
    assert "open_qa-0001" in read_lines(records)
    tab.press("n")
    tab.wait("document.activeElement.id === 'edit-topic'")
    assert named(tab) == "open_qa-0009"
    tab.type("ecology")
    for field, text in (("ja.instruction", "問い"), ("ja.reasoning", "理由"), ("ja.output", "答え"),
                        ("en.instruction", "Q?"), ("en.reasoning", "Because."), ("en.output", "A.")):  # fmt: skip
        write(tab, field, text)
    tab.press("s", ctrl=True)
    tab.wait(f"{TOAST} === 'saved open_qa-0009'")
    assert read_lines(records)["open_qa-0009"].record["topic"] == "ecology"


def test_a_language_is_added_to_a_group(tab: Tab, records: Path) -> None:
    name = next(n for n, line in read_lines(records).items() if "zh" not in line.record and n.startswith("open_qa"))
    tab.value("document.getElementById('missing').value = 'zh'")
    tab.value("document.getElementById('missing').dispatchEvent(new Event('change'))")
    tab.value(f"document.getElementById('row-{name}').click()")
    tab.wait(f"document.querySelector('#group h2').textContent === '{name}'")
    tab.click("document.getElementById('add-zh')")
    tab.wait("document.activeElement.dataset.field === 'zh.instruction'")
    tab.wait("document.getElementById('whole').textContent.includes(\"'zh.output' is empty\")")
    for field in ("instruction", "reasoning", "output"):
        write(tab, f"zh.{field}", "中文。")
    tab.press("s", ctrl=True)
    tab.wait(f"{TOAST} === 'saved {name}'")
    assert read_lines(records)[name].record["zh"]["output"] == "中文。"


def test_the_earlier_reasoning_is_kept_if_one_wants(tab: Tab, records: Path) -> None:
    old = read_lines(records)["open_qa-0002"].record
    tab.press("j")
    tab.wait("document.querySelector('#group h2').textContent === 'open_qa-0002'")
    write(tab, "en.reasoning", "Step by step, better.")
    tab.wait("!document.querySelector('[data-earlier=en]').hidden")
    tab.click("document.querySelector('[data-earlier=en]')")
    tab.press("s", ctrl=True)
    tab.wait(f"{TOAST} === 'saved open_qa-0002'")
    assert read_lines(records)["open_qa-0002"].record["original"]["en"]["reasoning"] == old["en"]["reasoning"]


def test_findings_lead_to_the_other_group(tab: Tab, desk: Desk, records: Path) -> None:
    check_everything(desk)
    twin = read_lines(records)["open_qa-0003"].record
    for language in ("ja", "en"):
        for field in ("instruction", "input", "output"):
            write(tab, f"{language}.{field}", twin[language][field])
    tab.wait("document.querySelector('#whole, .findings')")
    link = "[...document.querySelectorAll('.findings .link')].find(b => b.textContent === 'open_qa-0003')"
    tab.wait(link)
    tab.value(f"({link}).click()")
    tab.wait("document.querySelector('#group h2').textContent === 'open_qa-0003'")
    assert contents(records)


def test_a_phone_of_390_pixels_can_do_it_all(tab: Tab, records: Path) -> None:
    opened(tab, "?language=ja", width=390)
    fits = "document.documentElement.scrollWidth <= 390"
    assert tab.value(fits)
    tab.click("document.querySelector('#row-open_qa-0002')")
    tab.wait("document.querySelector('#group h2')?.textContent === 'open_qa-0002'")
    assert tab.value(fits)
    assert tab.value("[...document.querySelectorAll('textarea')].every(a => a.scrollHeight <= a.clientHeight + 2)")
    write(tab, "ja.output", "携帯から。")
    tab.click("document.getElementById('save')")
    tab.wait(f"{TOAST} === 'open_qa-0002を保存しました'")
    assert read_lines(records)["open_qa-0002"].record["ja"]["output"] == "携帯から。"
    tab.click("document.querySelector('.back')")
    tab.wait("document.getElementById('list').getBoundingClientRect().width > 300")
    for key in ("?", "r"):
        tab.press(key)
        tab.wait("document.querySelector('dialog').open")
        assert tab.value(fits)
        tab.press("Escape")


def test_a_thousand_groups_scroll_without_being_drawn(tab: Tab, records: Path) -> None:
    path = records / "open_qa.jsonl"
    line = path.read_bytes().split(b"\n")[0]
    more = [line.replace(b"open_qa-0001", f"open_qa-{number}".encode()) for number in range(1000, 2000)]
    path.write_bytes(path.read_bytes() + b"\n".join(more) + b"\n")
    opened(tab)
    tab.wait("document.getElementById('shown').textContent === '1056 of 1056 groups'")
    assert tab.value("document.querySelectorAll('.row').length") < 60
    seconds = tab.value(
        "(async () => { const l = document.getElementById('rows'), t = performance.now();"
        " for (let i = 0; i < 60; i++) { l.scrollTop = i * 1000; await new Promise(requestAnimationFrame); }"
        " return (performance.now() - t) / 1000 / 60; })()"
    )
    assert seconds < 0.1, "a frame takes too long"
    tab.press("End")
    tab.wait("document.querySelector('.row[aria-selected=true]')?.id === 'row-question_to_question-0008'")


def test_no_script_of_a_record_runs(tab: Tab, records: Path) -> None:
    line = read_lines(records)["open_qa-0001"]
    record = json.loads(line.raw)
    record["topic"] = EVIL
    for language in ("ja", "en"):
        record[language] = dict.fromkeys(record[language], EVIL)
    record["read"] = [
        {"language": "ja", "reader": EVIL[:90], "kind": "person", "date": "2026-12-02", "verdict": "fault",
         "fault": "other", "words": EVIL, "sha256": "0" * 16},
    ]  # fmt: skip
    change_groups(records, [GroupChange(read=line, record=record)], note="evil")
    opened(tab)
    tab.wait(f"{FIELD.format('ja.output')}.value.startsWith('<img')")
    tab.press("1", "Escape", "r", "Escape")
    assert "evil" not in tab.value("document.title")
    assert tab.value("document.querySelectorAll('main img, main script, dialog img').length") == 0
    refused = tab.value(
        "(() => { const s = document.createElement('script'); s.textContent = \"document.title = 'evil'\";"
        " document.body.append(s); return document.title; })()"
    )
    assert "evil" not in refused
    tab.complaints[:] = [one for one in tab.complaints if "Content Security Policy" not in one]
