"""Numbers from rows and vectors: metrics, bootstrap intervals, paired differences, cosines."""

from studies.measure.examples import ALL, some
from studies.measure.metric import YES_NO, Metric, Record, Row, accuracy, ratio, unparsable, valid
from studies.measure.tables import GROUP, by_setting, called, difference, estimate, group, refused_records, table

__all__ = [
    "ALL",
    "GROUP",
    "Metric",
    "Record",
    "Row",
    "YES_NO",
    "accuracy",
    "by_setting",
    "called",
    "difference",
    "estimate",
    "group",
    "ratio",
    "refused_records",
    "some",
    "table",
    "unparsable",
    "valid",
]
