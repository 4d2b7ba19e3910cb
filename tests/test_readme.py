"""What README tells people to type is what the commands understand."""

import re
from pathlib import Path

from pipeline.config import list_recipes
from pipeline.run_local import main

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()


def test_every_recipe_is_in_the_table_and_every_file_named_is_there() -> None:
    table = [line for line in README.splitlines() if line.startswith("| `")]
    assert all(any(f"`{name}`" in row for row in table) for name in list_recipes())
    linked = re.findall(r"\]\(([\w/.-]+)\)", README) + re.findall(
        r"`((?:docs|pipeline)/[\w/]+\.\w+)`", README
    )
    assert linked
    assert [path for path in linked if not (REPOSITORY / path).exists()] == []


def test_a_folder_that_does_not_exist_is_answered_with_exit_2(tmp_path: Path) -> None:
    arguments = [
        "--recipe",
        "pets_unet",
        "--data",
        str(tmp_path / "nowhere"),
        "--workdir",
        str(tmp_path / "work"),
    ]
    assert main(arguments) == 2
    assert not (tmp_path / "work").exists()
