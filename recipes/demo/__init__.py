"""Serve a page to ask models, follow questions deeper, compare answers and browse the records."""
