"""Laws of clips: every input gives the same frames; the held-out pixels are the official ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from resfields_ngp.datasets.video import ClipConfig, ClipError, held_out_pixels, load_clip
from resfields_ngp.pictures import write_png
from resfields_ngp.video_files import write_mp4

KNOWN = [12, 22, 33, 35, 49, 54]
"""The first held-out pixels of frame 0 at 272 x 640."""


def gradient_clip(n_frames: int = 4, height: int = 12, width: int = 16) -> np.ndarray:
    """Returns a clip of moving colour gradients."""
    t, y, x = np.mgrid[:n_frames, :height, :width].astype(float)
    channels = [x / width, y / height, t / n_frames]
    return (np.stack(channels, -1) * 255).round().astype(np.uint8)


def test_a_folder_and_an_array_give_the_same_clip(tmp_path: Path):
    frames = gradient_clip()
    np.save(tmp_path / "clip.npy", frames)
    np.save(tmp_path / "floats.npy", frames / 255.0)
    for i, frame in enumerate(frames):
        write_png(tmp_path / "folder" / f"{i:03d}.png", frame)
    for name in ("clip.npy", "floats.npy", "folder"):
        clip = load_clip(ClipConfig(str(tmp_path / name)))
        assert np.array_equal(clip.frames, frames), name


def test_a_video_file_has_its_frames_in_rgb_and_its_speed(tmp_path: Path):
    frames = np.zeros((5, 32, 48, 3), np.uint8)
    frames[..., 0] = 200  # red
    write_mp4(tmp_path / "clip.mp4", frames, 12.0)
    clip = load_clip(ClipConfig(str(tmp_path / "clip.mp4"), "1:4"))
    assert clip.frames.shape == (3, 32, 48, 3) and clip.fps == pytest.approx(12.0)
    assert np.abs(clip.frames.astype(int) - [200, 0, 0]).max() <= 4


def test_written_videos_are_what_browsers_play(tmp_path: Path):
    """H.264 with half the chroma, its colours declared, the index before the pictures."""
    write_mp4(tmp_path / "clip.mp4", np.zeros((5, 32, 48, 3), np.uint8), 30000 / 1001)
    with av.open(tmp_path / "clip.mp4") as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == Fraction(30000, 1001)
        assert stream.codec_context.colorspace == Colorspace.ITU709
    content = (tmp_path / "clip.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    write_mp4(tmp_path / "none.mp4", [], 25.0)
    assert not (tmp_path / "none.mp4").exists()


def test_a_writer_pads_odd_sizes(tmp_path: Path):
    write_mp4(tmp_path / "odd.mp4", np.zeros((2, 31, 47, 3), np.uint8), 5.0)
    assert load_clip(ClipConfig(str(tmp_path / "odd.mp4"))).size == (32, 48)


def test_held_out_pixels_are_those_of_the_official_code():
    n_frames, n_pixels = 3, 272 * 640
    found = held_out_pixels(n_frames, n_pixels, ClipConfig())
    # The official code's own calls.
    np.random.seed(42)  # noqa: NPY002
    for frame in range(n_frames):
        chosen = np.random.choice(  # noqa: NPY002
            np.arange(n_pixels), size=int(0.1 * n_pixels), replace=False
        )
        expected = np.zeros(n_pixels, bool)
        expected[chosen] = True
        assert np.array_equal(found[frame], expected), frame
    assert np.flatnonzero(found[0])[:6].tolist() == KNOWN


def test_unseen_time_holds_out_whole_frames_of_the_official_code():
    found = held_out_pixels(50, 7, ClipConfig(held_out="unseen_time"))
    np.random.seed(42)  # noqa: NPY002
    chosen = np.random.choice(50, size=5, replace=False)  # noqa: NPY002
    assert sorted(np.flatnonzero(found.all(1))) == sorted(chosen)
    assert not found[np.setdiff1d(np.arange(50), chosen)].any()


@pytest.mark.parametrize("config", [ClipConfig(held_out="none"), ClipConfig(held_out_fraction=0.0)])
def test_nothing_is_held_out_where_nobody_asks(config: ClipConfig):
    assert not held_out_pixels(4, 30, config).any()


def _other_size(folder: Path) -> Path:
    write_png(folder / "f" / "0.png", np.zeros((8, 10, 3), np.uint8))
    write_png(folder / "f" / "1.png", np.zeros((8, 12, 3), np.uint8))
    return folder / "f"


def _text(folder: Path) -> Path:
    (folder / "clip.mp4").write_text("no video")
    return folder / "clip.mp4"


def _empty(folder: Path) -> Path:
    write_mp4(folder / "clip.avi", np.zeros((1, 16, 16, 3), np.uint8), 5.0)
    content = (folder / "clip.avi").read_bytes()
    (folder / "clip.avi").write_bytes(content[: len(content) // 3])
    return folder / "clip.avi"


def _array(shape: tuple[int, ...], value: float = 0.0):
    def make(folder: Path) -> Path:
        np.save(folder / "clip.npy", np.full(shape, value))
        return folder / "clip.npy"

    return make


def _broken_image(folder: Path) -> Path:
    (folder / "0.png").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (_text, "clip.mp4: OpenCV cannot open it as a video"),
        (_empty, "clip.avi: "),
        (_other_size, "1.png is 12 x 8, the first frame 10 x 8"),
        (_array((3, 4, 5)), r"an array of shape \(3, 4, 5\)"),
        (_array((0, 4, 5, 3)), r"an array of shape \(0, 4, 5, 3\)"),
        (_array((2, 4, 5, 3), 7.0), "float64 from 7.0 to 7.0"),
        (_broken_image, "0.png: not a readable image"),
        (lambda folder: folder, "no images there"),
    ],
)
def test_clips_that_are_no_use_are_named(tmp_path: Path, make, complaint: str):
    path = make(tmp_path)
    with pytest.raises(ClipError, match=complaint) as error:
        load_clip(ClipConfig(str(path)))
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_frames_out_of_range_are_named(tmp_path: Path):
    np.save(tmp_path / "clip.npy", gradient_clip())
    with pytest.raises(ClipError, match="it has 4 frames"):
        load_clip(ClipConfig(str(tmp_path / "clip.npy"), "9:12"))
