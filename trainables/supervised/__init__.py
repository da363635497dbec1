"""The control: a convolutional network that learns from the labelled images alone."""
