"""The settings of a cell, one module a trainable; none imports torch.

A trainable's `Config` and `VERSION` may live in the trainable itself. They are apart here because
a plan of 100,000 cells should take no longer than torch takes to be imported.
"""

from trainables.settings.shape import Shape as Shape
