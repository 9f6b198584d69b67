"""MM-SafetyBench: refuse, refer to an expert, or answer."""

from studies.tasks.mm_safety.mm_safety import MMSafety

__all__ = ["MMSafety"]
