"""Numbers from rows and vectors: metrics, bootstrap intervals, paired differences, cosines."""
