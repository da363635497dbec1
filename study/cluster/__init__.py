"""What the nodes of a cluster have and share, asked before anything is spent on them."""
