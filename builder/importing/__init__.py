"""Bringing one's own data: a file becomes groups and drafts, and a large one is checked row by row."""
