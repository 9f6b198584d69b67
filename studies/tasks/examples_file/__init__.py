"""A file of one's own examples as a task: an image, a question, a wanted and an unwanted answer a row."""

from studies.tasks.examples_file.data import Data, read_data
from studies.tasks.examples_file.inspection import Inspection, inspect
from studies.tasks.examples_file.task import OwnTask

__all__ = ["Data", "Inspection", "OwnTask", "inspect", "read_data"]
