"""How tcnn lays parameters and rows out, and what it says where its packages do not load."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch
from kernel_cases import (
    seeded,
)
from stand_ins import nerfacc

from resfields_ngp.backends import BackendUnavailable, MlpSpec
from resfields_ngp.backends import tcnn as adapter
from resfields_ngp.backends.tcnn_layout import channel_groups, network_config, pad_rows


def test_widths_without_a_fused_kernel_take_the_cutlass_one():
    kinds = [network_config(MlpSpec(3, 1, width))["otype"] for width in (16, 48, 64, 96, 128)]
    assert kinds == ["FullyFusedMLP", "CutlassMLP", "FullyFusedMLP", "CutlassMLP", "FullyFusedMLP"]


def test_groups_of_channels_hold_the_whole_table():
    table = torch.randn(8, 5, 2, generator=seeded())
    groups = channel_groups(table)
    assert [(begin, count) for begin, count, _ in groups] == [(0, 4), (4, 4)]
    assert torch.equal(groups[0][2].view(8, 4, 2), table[:, :4])
    assert torch.equal(groups[1][2].view(8, 4, 2)[:, 0], table[:, 4])
    assert not groups[1][2].view(8, 4, 2)[:, 1:].any()
    with pytest.raises(BackendUnavailable, match="1, 2, 4 or 8 features a level, not 3"):
        channel_groups(torch.zeros(8, 1, 3))


@pytest.mark.parametrize(("n_rows", "expected"), [(0, 0), (1, 256), (256, 256), (257, 512)])
def test_rows_are_padded_with_zeros_to_multiples_of_256(n_rows: int, expected: int):
    padded = pad_rows(torch.ones(n_rows, 3))
    assert padded.shape == (expected, 3) and padded.sum() == 3 * n_rows


@pytest.mark.parametrize("name", ["tinycudann", "nerfacc"])
@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'it'"),
        OSError("Could not find compatible tinycudann extension for compute capability 90.\nmore"),
        ImportError("undefined symbol: _ZN3c10"),
    ],
)
def test_an_import_error_is_one_line_with_capability_build_and_remedy(monkeypatch, name, error):
    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(adapter.importlib, "import_module", fail)
    monkeypatch.setattr(adapter, "_capability", lambda: "90")
    with pytest.raises(BackendUnavailable) as caught:
        adapter.imported(name)
    text = str(caught.value)
    assert "\n" not in text and text.startswith(f"{name}: {str(error).splitlines()[0].rstrip('.')}")
    assert "compute capability of this GPU: 90" in text and "built for: " in text
    assert ("TCNN_CUDA_ARCHITECTURES=90" if name == "tinycudann" else "ARCH_LIST=9.0") in text
    assert "pip install" in text


def test_what_was_built_is_read_from_the_extensions_names(monkeypatch, tmp_path):
    folder = tmp_path / "tinycudann_bindings"
    folder.mkdir()
    for capability in (80, 86):
        (folder / f"_{capability}_C.cpython-311-x86_64-linux-gnu.so").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert adapter._built("tinycudann") == "80, 86"


def test_nerfacc_without_compiled_code_is_refused(monkeypatch):
    modules = {"nerfacc": nerfacc(), "nerfacc.cuda._backend": SimpleNamespace(_C=None)}
    monkeypatch.setattr(adapter.importlib, "import_module", modules.__getitem__)
    with pytest.raises(BackendUnavailable, match="not compiled"):
        adapter.imported("nerfacc")
