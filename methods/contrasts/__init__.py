"""From pairs of completions to the activations that methods are fitted from."""
