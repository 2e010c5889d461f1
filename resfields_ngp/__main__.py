"""``python -m resfields_ngp``, the same as ``resfields-ngp``."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
