"""What a window holds, where it lies, and how pictures of any size are kept for that."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import StageError
from components.trainer import windows as windows_module
from components.trainer.pictures import Picture, keep
from components.trainer.windows import Place, RandomWindows, cut, cut_of_grid, grid

SHAPES = [(30, 40), (1, 1), (1, 5000), (7, 9), (64, 5)]


def picture(height: int, width: int, seed: int = 0, classes: int = 3) -> Picture:
    random = np.random.default_rng([seed, height, width])
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    return Picture(image, random.integers(0, classes, (height, width)).astype(np.uint8))


def random_windows(pictures: list[Picture], height: int = 8, width: int = 8, **options: Any) -> RandomWindows:
    defaults: dict[str, Any] = {"num_classes": 3, "foreground": 0.0, "seed": 0}
    return RandomWindows(pictures, height, width, **defaults | options)


SIDES = st.integers(1, 12)


@settings(max_examples=200, deadline=None)
@given(own=st.tuples(SIDES, SIDES), size=st.tuples(SIDES, SIDES), data=st.data())
def test_a_window_shows_the_picture_and_around_it_its_mirror_image_which_does_not_count(
    own: tuple[int, int], size: tuple[int, int], data: st.DataObject
) -> None:
    whole = picture(*own)
    # Wherever the two meet.
    top, left = (data.draw(st.integers(1 - side, other - 1)) for side, other in zip(size, own, strict=True))
    window = cut(whole, top, left, *size)
    # NumPy's own mirror, wide enough on every side.
    pad = 12
    around = np.pad(whole.image, ((pad, pad), (pad, pad), (0, 0)), "reflect")
    ids = np.pad(whole.class_ids, pad, constant_values=255)
    rows, columns = slice(pad + top, pad + top + size[0]), slice(pad + left, pad + left + size[1])
    np.testing.assert_array_equal(window.image, around[rows, columns])
    np.testing.assert_array_equal(window.class_ids, ids[rows, columns])


@pytest.mark.parametrize("size", [(8, 8), (8, 24), (64, 256), (64, 2), (1, 1)])
def test_the_grid_counts_every_pixel_once(size: tuple[int, int]) -> None:
    for shape in [*SHAPES, (5000, 1)]:
        # Every pixel a number of its own, in two channels and the mask's share of it.
        numbers = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
        image = np.stack([numbers % 250, numbers // 250], axis=-1).astype(np.uint8)
        whole = Picture(image, (numbers % 250).astype(np.uint8))
        seen: Counter[int] = Counter()
        for place in grid([whole], *size):
            window = cut_of_grid(whole, place, *size)
            assert window.image.shape == (*size, 2) and window.class_ids.shape == size
            # Inside the picture; of a smaller one's, about its centre.
            top, left = (
                min(start, own - side) if own >= side else -((side - own + 1) // 2)
                for start, own, side in zip(place[1:], shape, size, strict=True)
            )
            np.testing.assert_array_equal(window.image, cut(whole, top, left, *size).image)
            counted = window.class_ids != 255
            low, high = window.image[counted].astype(int).T
            np.testing.assert_array_equal(low, window.class_ids[counted])
            seen.update((low + 250 * high).tolist())
        assert seen == Counter(range(numbers.size))


@settings(max_examples=50, deadline=None)
@given(
    number=st.integers(0, 2**40),
    seed=st.integers(0, 2**31 - 1),
    foreground=st.sampled_from([0.0, 0.5, 1.0]),
    size=st.sampled_from([(8, 8), (64, 256)]),
)
def test_random_windows_lie_inside_a_picture_or_around_a_smaller_one(
    number: int, seed: int, foreground: float, size: tuple[int, int]
) -> None:
    shapes = [*SHAPES, (5000, 1)]
    windows = random_windows([picture(*shape) for shape in shapes], *size, seed=seed, foreground=foreground)
    place = windows.place(number)
    for start, own, side in zip(place[1:], shapes[place.picture], size, strict=True):
        assert min(0, own - side) <= start <= max(0, own - side)


def test_where_a_window_lies_follows_from_seed_and_number_alone() -> None:
    pictures = [picture(30, 40, seed) for seed in range(5)]
    one, other = (random_windows(pictures, foreground=0.3) for _ in range(2))
    places = [one.place(number) for number in range(300)]
    assert [other.place(number) for number in reversed(range(300))] == places[::-1]
    assert len(set(places)) > 250
    assert [random_windows(pictures, seed=1).place(number) for number in range(300)] != places


def test_a_round_shows_every_picture_as_often_as_its_pixels_fill_windows() -> None:
    windows = random_windows([picture(*shape) for shape in SHAPES])
    # 1200, 1, 5000, 63 and 320 pixels, in windows of 64.
    assert windows.covering == 19 + 1 + 79 + 1 + 5
    rounds = [
        [windows.place(number).picture for number in range(start, start + windows.covering)]
        for start in (0, 105)
    ]
    assert [Counter(seen) for seen in rounds] == [Counter({0: 19, 1: 1, 2: 79, 3: 1, 4: 5})] * 2
    assert rounds[0] != rounds[1]


def test_random_windows_reach_every_place_evenly() -> None:
    windows = random_windows([picture(10, 8)])
    tops = Counter(windows.place(number).top for number in range(3000))
    assert set(tops) == {0, 1, 2} and min(tops.values()) > 900


@pytest.mark.parametrize(("most", "some", "rare"), [(0, 1, 2), (2, 0, 1)])
def test_a_rare_class_is_shown_as_often_as_others_in_whichever_picture_it_is(
    most: int, some: int, rare: int
) -> None:
    """The rare class has a pixel in each of two of ten pictures, another one a tenth of them all."""
    pictures = []
    for number in range(10):
        class_ids = np.full((40, 50), most, np.uint8)
        class_ids[:4] = some
        if number in (3, 7):
            class_ids[20 + number, 30] = rare
        class_ids[30] = 255
        pictures.append(Picture(np.zeros((40, 50, 3), np.uint8), class_ids))
    windows = random_windows(pictures, foreground=1.0)
    shown: Counter[int] = Counter()
    holders: Counter[int] = Counter()
    for number in range(1000):
        place = windows.place(number)
        middle = cut(pictures[place.picture], place.top + 2, place.left + 2, 4, 4).class_ids
        if rare in middle:
            holders[place.picture] += 1
        # Windows at the picture's upper edge have what they are laid around above their middle.
        shown[rare if rare in middle else some if place.top <= 3 else most] += 1
    assert shown[most] == 0 and min(shown[some], shown[rare]) > 420
    assert set(holders) == {3, 7} and min(holders.values()) > 180


def test_a_class_is_found_wherever_it_is_in_a_large_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    class_ids = picture(30, 40).class_ids
    at_once = windows_module._search(class_ids, 3, np.random.default_rng(0))
    monkeypatch.setattr(windows_module, "_BLOCK_PIXELS", 7)
    in_blocks = windows_module._search(class_ids, 3, np.random.default_rng(0))
    assert at_once[0].tolist() == in_blocks[0].tolist() == np.bincount(class_ids.ravel()).tolist()
    for class_id, positions in in_blocks[1].items():
        assert (class_ids.ravel()[positions] == class_id).all()
        assert sorted(positions) == sorted(at_once[1][class_id])


@pytest.mark.parametrize("share", [0.0, 0.33, 1.0])
def test_the_share_of_windows_around_a_class_is_the_recipes(share: float) -> None:
    class_ids = np.zeros((200, 200), np.uint8)
    class_ids[100, 100] = 1
    windows = random_windows([Picture(np.zeros((200, 200, 3), np.uint8), class_ids)], foreground=share)

    def holds(place: Place) -> bool:
        return place.top <= 100 < place.top + 8 and place.left <= 100 < place.left + 8

    around = sum(holds(windows.place(number)) for number in range(1000))
    assert abs(around / 1000 - share) < 0.05


@pytest.mark.parametrize("class_ids", [255, 0])
def test_pictures_without_a_class_to_seek_are_shown_all_the_same(class_ids: int) -> None:
    ids = np.full((9, 9), class_ids, np.uint8)
    windows = random_windows([Picture(np.zeros((9, 9, 3), np.uint8), ids)], foreground=1.0)
    images, masks = windows.cut(range(3), (8, 8))
    assert images.shape == (3, 8, 8, 3)
    assert (masks == class_ids).all()


def test_a_frame_has_the_window_in_its_middle_and_the_picture_around_it() -> None:
    pictures = [picture(30, 40, seed) for seed in range(3)]
    windows = random_windows(pictures, 8, 6)
    images, masks = windows.cut(range(5), (8, 6))
    framed, framed_masks = windows.cut(range(5), (20, 12))
    np.testing.assert_array_equal(framed[:, 6:14, 3:9], images)
    np.testing.assert_array_equal(framed_masks[:, 6:14, 3:9], masks)
    for number in range(5):
        place = windows.place(number)
        around = cut(pictures[place.picture], place.top - 6, place.left - 3, 20, 12)
        np.testing.assert_array_equal(framed[number], around.image)
        np.testing.assert_array_equal(framed_masks[number], around.class_ids)


def test_pictures_that_take_too_much_memory_are_the_same_on_disk(tmp_path: Path) -> None:
    pictures = [picture(*shape) for shape in SHAPES]
    size = sum(part.nbytes for each in pictures for part in each)
    in_memory = keep(iter(pictures), size, tmp_path / "pixels" / "train")
    assert not list(tmp_path.iterdir())
    on_disk = keep(iter(pictures), size - 1, tmp_path / "pixels" / "train")
    assert (tmp_path / "pixels" / "train").stat().st_size == size
    for expected, *kept in zip(pictures, in_memory, on_disk, strict=True):
        for each in kept:
            np.testing.assert_array_equal(each.image, expected.image)
            np.testing.assert_array_equal(each.class_ids, expected.class_ids)


def test_a_full_disk_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to("/dev/full")
    with pytest.raises(
        StageError, match=r"kept in .*train: No space left on device; .*training\.cache_bytes"
    ):
        keep([picture(200, 200)], 0, tmp_path / "train")
