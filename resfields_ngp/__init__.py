"""Multi-view images of something that moves, to one mesh per frame.

Reading order: `records` (units, what passes between the stages), `cameras`, `datasets`, `hull`,
`occupancy`, `encoders`, `resfield`, `mlp`, `heads`, `field`, `rendering`, `losses`, `step`,
`training`, `reconstruction`; then what leaves the program: `meshing`, `imaging`, `evaluation`.
`cli` and `commands` tie them together, `config` says how.
"""

from __future__ import annotations

__version__ = "0.1.0"
