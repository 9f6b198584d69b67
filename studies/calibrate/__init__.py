"""Calibration: trials, the search over layers and strength, and what it loses against the whole grid."""
