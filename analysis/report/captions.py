"""Words that several captions share."""

GIVEN = "for these test images and this split"
"""What intervals over replicates leave out."""

INTERVALS = "bars are 95 % Student-t intervals over replicates, dots the replicates"
