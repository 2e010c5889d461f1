"""Multi-view images of something that moves, to one mesh per frame.

Reading order: `records` (units, what passes between the stages), `cameras`, `datasets`, `hull`,
`hull_core`, `encoders`, `resfield`, `mlp`, `motion`, `heads`, `field`, `occupancy`, `rendering`,
`pixels`, `losses`, `step`, `tasks`, `training`, `reconstruction`; then what leaves the program:
`meshing`, `textured_export`, `imaging`, `evaluation`. `prepare` makes captures of meshes and
footage. `backends` has the kernels. `cli`, `commands` and `stages` tie them together, `config`
says how.
"""

from __future__ import annotations

from .kernel_cache import keep_kernels

keep_kernels()

__version__ = "0.1.0"
