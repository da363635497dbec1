"""Parser of the command line, and the experiments that its options select."""
