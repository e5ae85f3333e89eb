"""An adapter's card: facts in, Markdown out; imports nothing of its siblings."""
