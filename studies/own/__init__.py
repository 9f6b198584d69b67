"""One's own examples, from a file to a steerer with its card, and on to questions answered with it."""
