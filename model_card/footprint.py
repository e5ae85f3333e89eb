"""Energy and carbon of a run, estimated: nothing on a free GPU may be metered, so the method is stated with the figure.

Energy is the device's stated power times the time in the training loop; that is an upper bound for the GPU itself and
leaves out the machine around it. Carbon is the energy times the world's average intensity.
"""

from __future__ import annotations

from dataclasses import dataclass

WATTS = {"T4": 70.0, "L4": 72.0, "A100": 400.0, "H100": 700.0, "H200": 700.0}
"""Board power by NVIDIA's datasheets (A100, H100 and H200 in their SXM form)"""
CPU_WATTS = 65.0
"""assumed: the usual rating of a desktop processor"""
GRAMS_PER_KWH = 473.0
"""CO2 equivalent, world average of 2024: Ember, Global Electricity Review 2025"""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a run used, by estimate."""

    watts: float
    watts_from: str
    kwh: float
    grams: float
    """of CO2 equivalent"""

    @property
    def method(self) -> str:
        """How the figures were arrived at."""
        return (
            f"{self.watts:.0f} W ({self.watts_from}) times the time in the training loop, at {GRAMS_PER_KWH:.0f} g "
            "of CO2 a kWh (world average of 2024: Ember, Global Electricity Review 2025); not metered"
        )


def footprint(device: str, seconds: float) -> Footprint | None:
    """The estimate for a run on this device; None for a GPU whose power is not listed here."""
    found = next((name for name in WATTS if name in device.replace("-", " ").split()), None)
    if found is not None:
        watts, said = WATTS[found], f"the {found}'s rating"
    elif device == "CPU":
        watts, said = CPU_WATTS, "assumed for a desktop processor"
    else:
        return None
    kwh = watts * seconds / 3_600_000
    return Footprint(watts=watts, watts_from=said, kwh=kwh, grams=kwh * GRAMS_PER_KWH)
