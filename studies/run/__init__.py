"""From arguments to rows: the model, the result folder, and replies written as they come."""
