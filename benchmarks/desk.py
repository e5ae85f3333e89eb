"""Measure how fast the desk is over the real records: opening, first paint, checks while one types, search, saving.

    python -m benchmarks.desk [--checks 60] [--out benchmarks/results/desk.json]

`bonsai tend` runs as a person starts it, over a copy of the records, and is asked over HTTP as the page asks it. Each
check is of another group, chosen by a seed, with one text edited, so nothing comes out of a cache. First paint and the
list are timed by Chromium, where there is one. Nothing else should run beside it; the load is kept with the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from bonsai.builder.records import default_records_dir
from bonsai.cli.entry_point import available_cores
from tests.recipes.inference.chromium import chromium

SEED = 20261202
LOADS = 7
"""of the page; the first one finds the browser cold"""
_OPENER = build_opener(ProxyHandler({}))


class Page:
    """The desk, asked as its script asks it."""

    def __init__(self, address: str) -> None:
        self.address = address
        html = _OPENER.open(address).read().decode()
        self._token = re.findall(r'"token":"([^"]+)"', html)[0]

    def ask(self, path: str, **body: Any) -> Any:
        headers = {"X-Desk-Token": self._token, "Content-Type": "application/json"}
        request = Request(f"{self.address}api/{path}", json.dumps(body).encode(), headers)
        return json.loads(_OPENER.open(request, timeout=120).read())


@contextmanager
def running_desk(records: Path) -> Iterator[tuple[Page, float]]:
    """Start `bonsai tend`; yield the page, and after how many seconds it answered."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "bonsai.cli.main", "tend", "--records", str(records), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=records.parent) as process:
        assert process.stdout is not None
        page = Page(process.stdout.readline().split()[0] + "/")
        try:
            yield page, time.perf_counter() - started
        finally:
            process.terminate()


def timed(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum, in milliseconds."""
    ordered = sorted(seconds)
    at = {"median": statistics.median(ordered), "p95": ordered[int(0.95 * (len(ordered) - 1))], "max": ordered[-1]}
    return {name: round(1000 * value, 1) for name, value in at.items()}


def edited(record: dict[str, Any], number: int) -> dict[str, Any]:
    """A text of the record with a few words more, other ones each time."""
    language = ("ja", "en")[number % 2]
    field = "text" if "text" in record[language] else ("instruction", "output", "reasoning")[number % 3]
    more = {"ja": f"なお、{number}番目の例も挙げてください。", "en": f" Give example number {number} as well."}[
        language
    ]
    return {**record, language: {**record[language], field: record[language][field] + more}}


def paint(page: Page) -> dict[str, Any]:
    """First paint, and how long until rows and the first group are there, by the browser's own clock."""
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as tab:
        seen: dict[str, list[float]] = {"first_contentful_paint": [], "list": [], "first_group": []}
        for _ in range(LOADS):
            tab.open("about:blank")
            started = time.perf_counter()
            tab.send("Page.navigate", url=page.address)
            for name, wanted in (("list", ".row"), ("first_group", "#group textarea")):
                while not tab.value(f"document.querySelectorAll('{wanted}').length"):
                    time.sleep(0.005)
                seen[name].append(time.perf_counter() - started)
            paints = tab.value("performance.getEntriesByName('first-contentful-paint').map(p => p.startTime)")
            seen["first_contentful_paint"].append(paints[0] / 1000)
        return {name: summary(seconds) | {"first_load": round(1000 * seconds[0], 1)} for name, seconds in seen.items()}


def measure(checks: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        records = Path(shutil.copytree(default_records_dir(), Path(folder) / "records"))
        load = os.getloadavg()[0]
        started = time.perf_counter()
        with running_desk(records) as (page, answers):
            rows = page.ask("rows")["rows"]
            # 1. While everything is being checked for the first time.
            chosen = random.Random(SEED).sample([row["id"] for row in rows], checks)
            groups = [edited(page.ask("group", id=name)["record"], number) for number, name in enumerate(chosen)]
            first = timed(lambda: page.ask("check", record=groups[0]))
            beside = [timed(lambda record=record: page.ask("check", record=record)) for record in groups[:20]]
            painted = paint(page) if shutil.which("chromium") else None
            while not page.ask("state")["ready"]:
                time.sleep(0.2)
            ready = time.perf_counter() - started
            # 2. Then.
            alone = [timed(lambda record=record: page.ask("check", record=record)) for record in groups]
            related = [timed(lambda record=record: page.ask("relations", record=record)) for record in groups]
            searched = [
                timed(lambda word=word: page.ask("search", words=word)) for word in ("湖", "river", "盆栽 bonsai")
            ]
            saved = []
            for name, record in list(zip(chosen, groups, strict=True))[:10]:
                digest = page.ask("group", id=name)["digest"]
                saved.append(timed(lambda: page.ask("save", id=name, digest=digest, record=record)))  # noqa: B023
            return {
                "groups": len(rows),
                "cores": available_cores(),
                "load_before": round(load, 2),
                "seconds_until_the_page_answers": round(answers, 2),
                "seconds_until_everything_is_checked": round(ready, 1),
                "milliseconds": {
                    "page_while_everything_is_checked": painted,
                    "first_own_check": round(1000 * first, 1),
                    "own_checks_while_everything_is_checked": summary(beside),
                    "own_checks": summary(alone),
                    "relations": summary(related),
                    "search": summary(searched),
                    "save": summary(saved),
                },
            }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description="How fast the desk is.")
    parser.add_argument("--checks", type=int, default=60, help="edited groups to check")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "desk.json")
    arguments = parser.parse_args()
    found = json.dumps(measure(arguments.checks), indent=1)
    arguments.out.write_text(found + "\n", encoding="utf-8")
    sys.stdout.write(found + "\n")


if __name__ == "__main__":
    main()
