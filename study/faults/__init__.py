"""What becomes of a trial that failed, was ended for want of memory, or of Ctrl-C."""
