"""Phrases in place of regular expressions."""

import re


def phrase(text: str) -> str:
    """A pattern that matches the text as it is; … in it stands for any characters of one line."""
    return ".*".join(map(re.escape, text.split("…")))
