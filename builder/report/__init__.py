"""What a maintainer reads after a build: one self-contained page for people, one JSON file for machines."""

from bonsai.builder.report.write import write_report

__all__ = ["write_report"]
