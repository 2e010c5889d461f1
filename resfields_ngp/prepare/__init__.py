"""From raw meshes or footage to captures in the ResFields layout: the verb ``prepare``.

Reading order: `config` (what can be set), `capture` (meshes: survey, rig, pictures, clouds) with
`rigs`, `pictures`, `shading`, `textures`, `raycasting` below it; `footage` (video) with
`footage_views`, `calibrations` and `matting` below it.
"""
