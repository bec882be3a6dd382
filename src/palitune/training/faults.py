"""What ends a training: one sentence that names the fault and the way out."""


class TrainingError(RuntimeError):
    """Training cannot go on as it was asked for."""


class SelfCheckError(TrainingError):
    """Training would not do what it says."""
