"""What can be told of steering before anything is fitted or decoded: from one pass over labelled yes/no prompts."""

from studies.foresight.forecast import Forecast, forecast, foresee
from studies.foresight.readings import Readings, read
from studies.foresight.words import Words

__all__ = ["Forecast", "Readings", "Words", "forecast", "foresee", "read"]
