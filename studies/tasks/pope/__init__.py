"""POPE: is an object in the image?"""

from studies.tasks.pope.pope import Pope

__all__ = ["Pope"]
