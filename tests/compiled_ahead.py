"""Prints as JSON which kernels are compiled ahead of meshing, and which only by meshing."""

from __future__ import annotations

import gc
import json
import warnings
from functools import partial

import torch
from ball_scene import ball_capture, ball_hull
from numba.core.dispatcher import Dispatcher

from resfields_ngp.backends import open_backend
from resfields_ngp.config import Config
from resfields_ngp.extraction import MeshingConfig, extract_mesh
from resfields_ngp.kernels_ahead import compile_meshing
from resfields_ngp.outlines import mask_outlines
from resfields_ngp.reconstruction import Reconstruction, prepare


def compiled() -> set[str]:
    """Returns every function compiled in this process, with its types."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some packages' objects complain when looked at
        kernels = [each for each in gc.get_objects() if isinstance(each, Dispatcher)]
    return {f"{each.py_func.__qualname__} {types}" for each in kernels for types in each.signatures}


def main() -> None:
    """Compiles ahead, meshes, and compares."""
    config, capture = Config(), ball_capture()
    compile_meshing(config, capture.n_frames)
    ahead = compiled()
    _, task, space = prepare(config, capture, open_backend("cpu", "cpu"), ball_hull())
    placed = (space, capture.frame_numbers, capture.world_from_normalised)
    outlines = partial(mask_outlines, capture.views)
    reconstruction = Reconstruction(task.field, task.occupancy, *placed, outlines=outlines)
    # Nothing was learnt, so a surface is where the field says what it says in the middle of a face.
    level = float(task.field.sdfs(torch.tensor([[0.5, 0.5, 0.9]]), 0))
    mesh = extract_mesh(reconstruction, 0, MeshingConfig(resolution=32, level=level, margin=99.0))
    found = {"ahead": sorted(ahead), "later": sorted(compiled() - ahead), "faces": mesh.n_faces}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
