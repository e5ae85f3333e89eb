"""Moved to bonsai.builder.reader (the folder `records` took the name); this file goes away: import from reader."""

from bonsai.builder.reader import Located, default_records, read_groups, shown

__all__ = ["Located", "default_records", "read_groups", "shown"]
