from __future__ import annotations


def load_transforms(config):
    raise NotImplementedError
