"""Models that are put together on the user's machine, from published packages and a small delta that lies here."""
