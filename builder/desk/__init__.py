"""The tending desk: a page on this machine to read, edit, check and sign records."""
