"""What `scripts/benchmark.py` compares on each task, and how its results page shows it."""

from __future__ import annotations

from typing import Any

from resfields_ngp.flow import FLOW_MOTIONS

NO_RESIDUALS = {"residual.rank": 0, "encoder.n_residuals": 0}
"""Settings of a field of captures or surfaces without any time residual."""

WARPS = ("offset", "se3", "se3_ambient", "invertible", "dct")
"""Motion models that need a field that does not change by itself."""


def _with_motion(kind: str) -> dict[str, dict[str, Any]]:
    """Returns the variants of one motion model in front of a density, as in the paper's study."""
    settings = {"head.kind": "nerf", "motion.kind": kind}
    return {
        f"nerf, {kind}": settings | NO_RESIDUALS,
        f"nerf, {kind} + residuals": settings,
    }


VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "video": {
        "residuals": {},
        "no residuals": {"residual.rank": 0},
        "no residuals, equal parameters": {
            "residual.rank": 0,
            "network.n_neurons": 128,
            "network.n_hidden_layers": 3,
        },
        "2-D grid with residuals": {"encoder.kind": "picture_grid"},
    },
    "sdf": {
        "residuals": {},
        "no residuals": NO_RESIDUALS,
        "residuals in the MLP only": {"encoder.n_residuals": 0},
        "residuals in the grid only": {"residual.rank": 0},
        "4-D grid": {"encoder.kind": "hash_grid_4d"},
        "the paper's points": {"points.widest_deviation": 0.01},
    },
    "flow": {
        f"{kind}{name}": {"motion.kind": kind, **settings}
        for kind in FLOW_MOTIONS
        for name, settings in (("", {"residual.rank": 0}), (" + residuals", {}))
    },
    "radiance": {
        "neus": {},
        "nerf": {"head.kind": "nerf"},
        "nerf, view-dependent": {"head.kind": "nerf", "head.view_degree": 3},
        "neus, no masks": {"capture.use_masks": False},
        "nerf, no masks": {"capture.use_masks": False, "head.kind": "nerf"},
        "nerf, no motion": {"head.kind": "nerf", "motion.n_times": 4} | NO_RESIDUALS,
        "nerf, no motion + residuals": {"head.kind": "nerf", "motion.n_times": 4},
        "nerf, latent": {"head.kind": "nerf", "motion.kind": "latent"} | NO_RESIDUALS,
        "nerf, latent + residuals": {"head.kind": "nerf", "motion.kind": "latent"},
        **{name: each for kind in WARPS for name, each in _with_motion(kind).items()},
    },
}
"""Task to variant to what differs from the defaults."""

COLUMNS: dict[str, dict[str, str]] = {
    "video": {
        "held_out_psnr": "held-out PSNR",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "bits_per_pixel": "bits / pixel",
    },
    "sdf": {
        "chamfer": "Chamfer",
        "chamfer_floor": "floor",
        "normal_consistency": "normals",
        "iou": "IoU",
        "prepare_seconds": "preparation (s)",
    },
    "flow": {
        "forward_relative": "forward / motion",
        "backward_relative": "backward / motion",
        "unseen_forward_relative": "unseen forward",
        "unseen_backward_relative": "unseen backward",
        "forward": "forward",
        "backward": "backward",
        "accuracy_5": "within 5 %",
        "accuracy_10": "within 10 %",
        "cycle_relative": "cycle / motion",
    },
    "radiance": {
        "psnr": "PSNR",
        "masked_psnr": "masked PSNR",
        "ssim": "SSIM",
        "chamfer": "Chamfer",
        "normal_consistency": "normals",
        "samples_per_ray": "samples / ray",
    },
}
"""Task to score to its heading."""

NOTES = {
    "video": "Held-out PSNR: the official split, 10 % of each frame's pixels, never trained on.",
    "sdf": (
        "Chamfer: Euclidean, both directions summed, the sequence in [-1, 1], 100,000 points;"
        " floor: the input against itself. Preparation: reading, and distances measured"
        " beforehand."
    ),
    "flow": (
        "End-point errors at points that training never drew; forward is from the first frame to"
        " the others, backward from them to the first; unseen: on whole triangles that training"
        " left out. In world units, or parts of the mean motion between each frame and the first."
    ),
    "radiance": (
        "The held-out camera. Chamfer: both directions summed, normalised units, meshes of every"
        " third frame. Without masks the scores of the masks are missing, and the whole picture"
        " is fitted."
    ),
}
"""Task to what its scores mean."""
