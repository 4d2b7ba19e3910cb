"""``components.imports``, in interpreters of their own: what one has imported stays imported."""

import subprocess
import sys
from pathlib import Path

import pytest


def _says(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


_HEAD = (
    "import gc, importlib.util, sys\n"
    "from components.imports import postpone_init, quick_imports, without_init\n"
)


def test_a_package_is_absent_within_and_there_afterwards() -> None:
    program = (
        f"{_HEAD}"
        "with quick_imports('colorsys'):\n"
        "    try:\n"
        "        import colorsys\n"
        "    except ImportError as error:\n"
        "        print(type(error).__name__, gc.isenabled())\n"
        "import colorsys\n"
        "print(colorsys.__name__, gc.isenabled())\n"
    )
    assert _says(program).split("\n") == ["ModuleNotFoundError False", "colorsys True"]


def test_what_was_imported_before_is_found_and_stays() -> None:
    program = (
        f"{_HEAD}"
        "import colorsys\n"
        "with quick_imports('colorsys'):\n"
        "    import colorsys as again\n"
        "print(again is colorsys is sys.modules['colorsys'])\n"
    )
    assert _says(program) == "True"


def test_a_block_within_a_block_that_hides_the_same_leaves_that_to_the_outer_one() -> None:
    program = (
        f"{_HEAD}"
        "with quick_imports('colorsys'):\n"
        "    with quick_imports('colorsys'):\n"
        "        pass\n"
        "    print(sys.modules['colorsys'], gc.isenabled())\n"
        "print('colorsys' in sys.modules, gc.isenabled())\n"
    )
    assert _says(program).split("\n") == ["None False", "False True"]


def test_what_has_been_imported_is_not_looked_through_for_garbage_again() -> None:
    program = (
        f"{_HEAD}"
        "with quick_imports():\n"
        "    import colorsys\n"
        "print(gc.is_tracked(vars(colorsys)), vars(colorsys) in gc.get_objects())\n"
    )
    assert _says(program) == "True False"


def test_a_package_is_imported_by_its_modules_alone() -> None:
    program = (
        f"{_HEAD}"
        "import json\n"
        "without_init('json')\n"
        "without_init('wsgiref')\n"
        "import wsgiref.headers\n"
        "print(callable(json.loads), wsgiref.headers.Headers.__name__, wsgiref.__doc__)\n"
        "without_init('no_such_package')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "True Headers None\n" and "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("collects", [True, False])
def test_after_an_import_that_fails_all_is_as_before(collects: bool) -> None:
    program = (
        f"{_HEAD}"
        f"{'' if collects else 'gc.disable()'}\n"
        "try:\n"
        "    with quick_imports('colorsys'):\n"
        "        import no_such_module\n"
        "except ImportError:\n"
        "    print(gc.isenabled(), 'colorsys' in sys.modules)\n"
    )
    assert _says(program) == f"{collects} False"


def test_a_package_is_whole_when_it_is_asked_for_what_is_no_module_of_it(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("print('opened')\nfrom shop import apples\nprice = apples.price\n")
    (package / "apples.py").write_text("price = 3\n")
    (package / "pears.py").write_text("price = 4\n")
    program = (
        f"{_HEAD}"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "postpone_init('shop')\n"
        "from shop import pears\n"
        "import shop\n"
        "print(pears.price, shop.pears is pears, hasattr(shop, '__iter__'), 'shop.apples' in sys.modules)\n"
        "print(shop.price, shop.pears is pears, hasattr(shop, 'plums'))\n"
        "postpone_init('shop')\n"
        "print(shop.price)\n"
        "postpone_init('no_such_package')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["4 True False False", "opened", "3 True False", "3", ""]
    assert "ModuleNotFoundError" in done.stderr


def test_what_only_executing_a_stage_takes_is_not_imported_before_and_whole_then() -> None:
    program = (
        "import sys\n"
        "from pipeline.local.run import import_tfx\n"
        "import_tfx()\n"
        "heavy = {'components.evaluator.executor', 'components.trainer.run_fn', 'kubernetes', 'nltk'}\n"
        "heavy |= {'IPython', 'google.cloud.bigquery', 'google.cloud.storage', 'matplotlib', 'scipy.stats'}\n"
        "print(heavy & set(sys.modules))\n"
        "from components.evaluator.component import Evaluator\n"
        "from components.trainer.component import Trainer\n"
        "print([stage.EXECUTOR_SPEC.executor_class.__module__ for stage in (Evaluator, Trainer)])\n"
        "import tensorflow_model_analysis as tfma\n"
        "import matplotlib, scipy\n"
        "print(tfma.EvalConfig.__name__, tfma.ExtractEvaluateAndWriteResults.__name__)\n"
    )
    assert _says(program).split("\n") == [
        "set()",
        "['components.evaluator.executor', 'components.trainer.executor']",
        "EvalConfig ExtractEvaluateAndWriteResults",
    ]


@pytest.mark.parametrize(("given", "counts"), [(None, "true"), ("false", "false")])
def test_of_a_gpu_is_taken_what_is_needed_unless_somebody_says_otherwise(
    given: str | None, counts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", given)
    program = f"{_HEAD}import os\nwith quick_imports():\n    print(os.environ['TF_FORCE_GPU_ALLOW_GROWTH'])"
    assert _says(program) == counts
