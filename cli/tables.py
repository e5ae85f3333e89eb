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


def counts_table(facts: DatasetFacts) -> Table:
    """What the groups have, and how many rows are derived."""
    table = Table(title=f"{facts.groups} groups", title_style="bold")
    table.add_column("of them with")
    table.add_column("groups", justify="right")
    table.add_column("share", justify="right")
    for name, groups in facts.groups_with.items():
        table.add_row(name, str(groups), f"{groups / facts.groups:.0%}")
    table.add_section()
    table.add_row("rows derived from other groups", str(facts.derived_rows), f"{facts.derived_rows / facts.rows:.1%}")
    table.add_row("probes", str(sum(facts.probe_kinds.values())), "")
    return table
