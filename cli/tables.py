"""Tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from bonsai.dataset_card.card import DatasetFacts


def dataset_table(facts: DatasetFacts) -> Table:
    """Rows by category and language."""
    table = Table(title=f"{facts.repo_id} v{facts.version}", title_style="bold")
    table.add_column("category")
    for language in (*facts.languages, "all"):
        table.add_column(language, justify="right")
    for category, counts in facts.category_language.items():
        table.add_row(
            category, *(str(counts.get(language, 0)) for language in facts.languages), str(sum(counts.values()))
        )
    totals = [sum(c.get(language, 0) for c in facts.category_language.values()) for language in facts.languages]
    table.add_section()
    table.add_row("all", *map(str, totals), str(sum(totals)))
    return table
