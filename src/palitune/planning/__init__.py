"""What a training will take, before it runs: memory, time, disk. Nothing is read but sizes.

Memory is predicted tensor by tensor (`activations`, `memory`), time from operations at a stated
share of the device's peak (`speed`).
"""

from typing import TYPE_CHECKING

from palitune.lazily import lazily

if TYPE_CHECKING:
    from palitune.planning.planned import Calibrated, Planned, calibrate, predict
    from palitune.planning.speed import Gpu
    from palitune.planning.workload import Told, look

__getattr__ = lazily(
    __name__,
    {
        "Calibrated": "planned",
        "Gpu": "speed",
        "Planned": "planned",
        "Told": "workload",
        "calibrate": "planned",
        "look": "workload",
        "predict": "planned",
    },
)

__all__ = ["Calibrated", "Gpu", "Planned", "Told", "calibrate", "look", "predict"]
