"""The `bonsai` command."""
