"""Calibrations of multi-view footage, one reader a kind."""

from __future__ import annotations

from .actors_hq import read_actors_hq
from .base import Footage, FootageView
from .colmap import MODEL_FOLDERS, read_colmap
from .easy_volcap import read_easy_volcap
from .llff import read_llff
from .neus2 import read_neus2

__all__ = ["READERS", "Footage", "FootageView"]

READERS = {
    "actorshq": (("calibration.csv",), read_actors_hq),
    "easyvolcap": (("intri.yml",), read_easy_volcap),
    "neus2": (("transform_*.json", "train/transform_*.json"), read_neus2),
    "colmap": (tuple(f"{folder}/cameras.*" for folder in MODEL_FOLDERS), read_colmap),
    "llff": (("poses_bounds.npy",), read_llff),
}
"""Kind of calibration to the files that it is known by and its reader."""
