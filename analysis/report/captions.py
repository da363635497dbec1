"""Words that several captions share."""

INTERVALS = "bars are 95 % Student-t intervals over replicates, dots the replicates"
