"""The chains on one HTML page that needs nothing else: no script, no network, light and dark, wide and narrow.

Its content security policy lets its own style in and nothing besides, so no question or answer can bring code along.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from bonsai.recipes.inference.conversation import Chain
from bonsai.recipes.inference.summary.content import Summary, chosen, summarise
from bonsai.recipes.inference.summary.markdown import notes
from bonsai.recipes.inference.summary.tree import WIDTH, tree
from bonsai.recipes.inference.summary.words import EN, JA, words


def page(chains: Sequence[Chain], summaries: Mapping[str, Summary] | None = None) -> str:
    """The whole page; several chains get an index. Every text is escaped by jinja2.

    Args:
        chains: finished or not; labels are in each one's language.
        summaries: by id of the chain, those that a model has told; the others are made of quotations.
    """
    style = _asset("page.css")
    japanese = any(words(chain.language) is JA for chain in chains) or not chains
    return _template().render(
        entries=[
            {
                "chain": chain,
                "summary": (summaries or {}).get(chain.id) or summarise(chain),
                "said": words(chain.language),
                "tree": tree(chain),
                "chosen": [chosen(chain, step) for step in chain.steps],
            }
            for chain in chains
        ],
        said=JA if japanese else EN,
        notes=notes,
        width=WIDTH,
        style=Markup(style),
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html.j2"))


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
