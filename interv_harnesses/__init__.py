"""The doors for programs that evaluate models: each finds its own by an entry point, and imports it alone."""
