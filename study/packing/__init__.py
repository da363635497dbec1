"""How many trials share a GPU, from what one of them takes of its memory."""
