"""The Hugging Face model and its processor: loaded, told apart by what they are, shared by threads."""
