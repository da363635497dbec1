"""What the user typed: the parser of options, and the selection that they make."""
