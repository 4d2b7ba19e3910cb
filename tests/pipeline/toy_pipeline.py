"""Runs ``python -m pipeline.run_local`` with toy stages in place of the real pipeline."""

import sys
from types import ModuleType
from typing import Any


def stand_in() -> ModuleType:
    """Returns what to put in ``sys.modules`` for ``pipeline.create_pipeline``."""
    module = ModuleType("pipeline.create_pipeline")
    module.create_pipeline = _create_pipeline  # type: ignore[attr-defined]
    return module


def _create_pipeline(*args: Any, **kwargs: Any) -> Any:
    # Imported as late as the real pipeline is, so that nothing is printed earlier than there.
    from toy_stages import create_pipeline

    return create_pipeline(*args, **kwargs)


if __name__ == "__main__":
    from pipeline.run_local import main

    sys.modules["pipeline.create_pipeline"] = stand_in()
    sys.exit(main())
