"""Measure the structure of the code: sizes, nesting, helpers, comments, and how many files a command can reach.

    python benchmarks/house.py

Counts are of the product alone (no tests, benchmarks or docs). "Files a command can reach" is the closure of the
project's own imports, lazy ones included, from the module that implements the command.
"""

from __future__ import annotations

import ast
import collections
import re
import statistics
import subprocess
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
OUTSIDE = ("tests/", "benchmarks/", "docs/")
SHORT = 60
"""lines; a file below holds too little to be a concept of its own"""
COMMANDS = {
    "ask": "cli/ask.py",
    "qtq": "cli/qtq.py",
    "build": "cli/dataset.py",
    "train": "cli/train.py",
    "publish": "cli/publish.py",
    "evaluate": "cli/evaluate.py",
    "compare": "cli/compare.py",
}


def product_files() -> list[str]:
    """List the product's Python files, relative to the checkout."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split() if not name.startswith(OUTSIDE) and (ROOT / name).is_file()]


def count(files: list[str]) -> dict[str, float]:
    """Count what can be counted in the given files."""
    lines, comments, short = [], 0, 0
    classes: collections.Counter[str] = collections.Counter()
    functions: list[tuple[str, str]] = []
    mentions: collections.Counter[tuple[str, str]] = collections.Counter()
    for name in files:
        text = (ROOT / name).read_text(encoding="utf-8")
        lines.append(text.count("\n"))
        comments += sum(line.strip().startswith("#") for line in text.split("\n"))
        if lines[-1] < SHORT and not name.endswith("__init__.py") and not re.match(r"recipes/\w+\.py$", name):
            short += 1
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.ClassDef():
                    classes[node.name] += 1
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    functions.append((name, node.name))
                case ast.Name():
                    mentions[name, node.id] += 1
                case ast.Attribute():
                    mentions[name, node.attr] += 1
    private = [key for key in functions if key[1].startswith("_") and not key[1].startswith("__")]
    return {
        "files": len(files),
        "lines": sum(lines),
        "median lines a file": statistics.median(lines),
        "longest file": max(lines),
        f"files under {SHORT} lines (recipes aside)": short,
        "files three folders deep": sum(name.count("/") >= 3 for name in files),
        "private functions with one caller, %": round(
            100 * sum(mentions[key] == 1 for key in private) / len(functions), 1
        ),
        "whole-line comments": comments,
        "class names used twice": sum(number > 1 for number in classes.values()),
    }


def reachable(start: str, files: list[str]) -> set[str]:
    """Follow the project's own imports from one file to every file they lead to, `__init__` aside."""
    module_of = {"bonsai." + name[:-3].replace("/", "."): name for name in files if not name.endswith("__init__.py")}
    found, waiting = set[str](), [start]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            waiting += [module_of[imported] for imported in names if imported in module_of]
    return found


def main() -> None:
    """Print the table."""
    files = product_files()
    table = Table("measure", "figure")
    for measure, figure in count(files).items():
        table.add_row(measure, f"{figure:,}")
    for command, start in COMMANDS.items():
        if start in files:
            table.add_row(f"files `bonsai {command}` can reach", str(len(reachable(start, files))))
    Console().print(table)


if __name__ == "__main__":
    main()
