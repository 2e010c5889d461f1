"""Calibrations of multi-view footage, one reader a kind."""

from __future__ import annotations

from .actors_hq import read_actors_hq
from .base import Footage, FootageView
from .easy_volcap import read_easy_volcap
from .neus2 import read_neus2

__all__ = ["READERS", "Footage", "FootageView"]

READERS = {
    "actorshq": ("calibration.csv", read_actors_hq),
    "easyvolcap": ("intri.yml", read_easy_volcap),
    "neus2": ("transform_*.json", read_neus2),
}
"""Kind of calibration to the file that it is known by and its reader."""
