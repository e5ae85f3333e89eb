"""まとめ: what a chain of questions led to, as Markdown, as JSON and as one page that teaches whoever reads it."""

from bonsai.recipes.inference.summary.markdown import interim, markdown
from bonsai.recipes.inference.summary.page import page
from bonsai.recipes.inference.summary.write import write

__all__ = ["interim", "markdown", "page", "write"]
