"""The demo: a page to ask, to be led deeper, to compare and to browse."""
