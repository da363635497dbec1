"""The parser of options, and the selection that they make."""
