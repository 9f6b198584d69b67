"""The figures of the studies: functions from a table's records to a matplotlib figure or a file."""
