"""What the page's script reads from pictures, and which ones are shown."""

import base64
import io
import math

import numpy as np
from PIL import Image

from components.imaging.palette import default_palette
from components.metrics.confusion import Margins
from components.report import gallery
from components.report.gallery import choose


def as_a_canvas_sees_it(uri: str) -> np.ndarray:
    """Red, green, blue, alpha."""
    _, _, encoded = uri.partition(",")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA"))


def test_class_ids_can_be_read_back_from_the_colours_and_what_is_ignored_is_transparent() -> None:
    class_ids = np.array([[0, 58, 3], [255, 7, 7]], np.uint8)
    palette = default_palette(59)
    seen = as_a_canvas_sees_it(gallery.mask_picture(class_ids, palette))
    by_color = {color: class_id for class_id, color in enumerate(palette)}
    read = [[by_color[tuple(p[:3].tolist())] if p[3] else 255 for p in row] for row in seen]
    assert read == class_ids.tolist()


def test_an_error_map_shows_right_wrong_and_ignored_pixels() -> None:
    seen = as_a_canvas_sees_it(gallery.error_picture(np.array([[1, 2, 255]]), np.array([[1, 1, 0]])))
    assert tuple(seen[0, 0, :3]) == gallery.RIGHT_COLOR
    assert tuple(seen[0, 1, :3]) == gallery.WRONG_COLOR
    assert seen[0, :, 3].tolist() == [255, 255, 0]


def test_an_image_of_16_bits_is_shown_as_bright_as_it_is() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 200 << 8, np.uint16)).save(buffer, "PNG")
    assert abs(int(as_a_canvas_sees_it(gallery.photograph(buffer.getvalue(), (2, 2)))[0, 0, 0]) - 200) <= 3


def test_nothing_is_enlarged_and_no_side_vanishes() -> None:
    assert gallery.fitted(100, 50, 384) == (100, 50)
    assert gallery.fitted(4000, 2, 384) == (384, 1)


def counts(truth: list[list[int]]) -> Margins:
    array = np.array(truth)
    return Margins(array, array, array)


def test_the_worst_the_median_and_the_best_examples_are_chosen() -> None:
    ious = [index / 100 for index in range(60)]
    chosen = choose(ious, [str(index) for index in range(60)], counts([[1]] * 60))
    by_why = {why: sorted(i for i in chosen if why in chosen[i]) for why in ("worst", "median", "best")}
    assert by_why == {"worst": [0, 1, 2, 3], "median": [28, 29, 30, 31], "best": [56, 57, 58, 59]}


def test_random_examples_are_the_same_for_two_models() -> None:
    names = [f"{index}.jpg" for index in range(50)]
    forward = choose([index / 50 for index in range(50)], names, counts([[1]] * 50))
    backward = choose([1 - index / 50 for index in range(50)], names, counts([[1]] * 50))

    def drawn(chosen: dict[int, list[str]]) -> set[int]:
        return {index for index in chosen if "random" in chosen[index]}

    assert drawn(forward) == drawn(backward)
    assert len(drawn(forward)) == 8


def test_a_rare_class_gets_an_example() -> None:
    truth = [[1, 0]] * 60
    truth[40] = [1, 5]
    assert "class" in choose([0.5] * 60, ["same"] * 60, counts(truth))[40]


def test_two_images_and_one_without_a_score_are_all_there_is() -> None:
    chosen = choose([0.3, math.nan], ["a", "b"], counts([[1], [0]]))
    assert chosen.keys() == {0, 1}
    assert chosen[1] == ["random"]
