"""Import a user's own files as groups and drafts, and check large ones row by row."""
