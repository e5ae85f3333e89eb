"""Read the templates, styles and tables that lie beside the code, and render self-contained HTML pages.

A page holds its own style and script, and its content security policy allows nothing else: a record or a model's text
cannot bring code in, and reading the page needs no network.
"""

from __future__ import annotations

import base64
import hashlib
import tomllib
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup


def load_text(package: str, name: str) -> str:
    """Read a file of a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def load_table(package: str, name: str) -> dict[str, Any]:
    """Read a TOML file of a package."""
    return tomllib.loads(load_text(package, name))


def html_environment(package: str, **filters: Callable[..., str]) -> Environment:
    """Build the jinja2 environment of a package's templates; it escapes what they are given."""
    loader = FunctionLoader(partial(load_text, package))
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found.filters |= filters
    return found


def render_page(template: Template, *, style: str, script: str = "", **context: Any) -> str:
    """Render a page with style and script inside, and the hashes by which its content security policy allows them."""
    digests = (hashlib.sha256(source.encode()).digest() for source in (style, script))
    style_hash, script_hash = (f"sha256-{base64.b64encode(digest).decode()}" for digest in digests)
    return template.render(
        **context, style=Markup(style), script=Markup(script), style_hash=style_hash, script_hash=script_hash
    )
