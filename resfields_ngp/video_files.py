"""Video files: H.264, which browsers, players and editors show."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from .writing import whole_file

_SETTINGS = {"crf": "16", "preset": "medium"}
"""Of libx264: 16 is taken for the original by eye."""


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Writes RGB frames (H, W, 3) uint8, padded to even sides as the codec needs.

    Colours are those of HDTV (BT.709, 8 bits, half as many of them as pixels each way), and the
    file says so. Without frames no file is written.

    Raises:
        OSError: The disk is full or the folder is not writable.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        return
    height, width = (side + side % 2 for side in first.shape[:2])
    with (
        whole_file(path) as partial,
        av.open(partial, "w", format="mp4", options={"movflags": "faststart"}) as file,
    ):
        stream = file.add_stream("libx264", Fraction(fps).limit_denominator(1001), _SETTINGS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        coder = stream.codec_context
        coder.color_range, coder.colorspace = ColorRange.MPEG, Colorspace.ITU709
        coder.color_primaries, coder.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for frame in chain([first], frames):
            edges = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
            pixels = np.pad(frame, edges)
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
