"""Inside attention: a function in the place of sdpa or eager, which reads and edits scores and weights."""
