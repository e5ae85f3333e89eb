"""One module here is one published adapter; the folder is the registry."""
