"""The embedded world: scenes, dialogues about them, and the training of the two models that know it."""
