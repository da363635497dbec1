"""Names of files that mean something else to a URL, a template, a pattern or a shell."""

NASTY_NAMES = [
    "job%2Fmain",
    "100%",
    "what?",
    "x?uri=true#y",
    "{}",
    "{SCHEMA_VERSION} {",
    "%(here)s",
    "~",
    "$HOME `ls` \\",
    'it\'s "said"',
    "file:C:",
    "me:secret@host",
    "ünïcödé 漢字 😀",
    "l" * 200,
    "-dash",
    " trail ",
    "new\nline",
    "*[a]?",
    "<b>&amp;",
    "escape\x1b[31m delete\x7f",
]
