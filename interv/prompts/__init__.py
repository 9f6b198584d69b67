"""From an image and a question to token ids and pixels."""
