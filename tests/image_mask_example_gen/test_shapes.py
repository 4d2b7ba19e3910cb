"""The drawn dataset."""

from pathlib import Path

import numpy as np

from components.image_mask_example_gen.config import DatasetConfig, ShapesConfig
from components.image_mask_example_gen.shapes import BOUNDARY, draw_dataset, draw_example, draw_unseen


def test_a_picture_depends_on_seed_and_index_only() -> None:
    for first, second in zip(draw_example(3, 7), draw_example(3, 7), strict=True):
        np.testing.assert_array_equal(first, second)
    assert draw_example(3, 7)[0].shape != draw_example(3, 8)[0].shape
    assert not np.array_equal(draw_example(4, 7)[1], draw_example(3, 7)[1])


def test_images_and_masks_fit_and_every_class_occurs() -> None:
    pictures = [draw_example(0, index) for index in range(60)]
    assert all(image.shape == (*mask.shape, 3) for image, mask in pictures)
    assert len({mask.shape for _, mask in pictures}) > 50
    shares = np.bincount(np.concatenate([mask.ravel() for _, mask in pictures]), minlength=5)
    assert len(shares) == DatasetConfig().label_set().num_classes
    assert (shares > 0.03 * shares.sum()).all()


def test_color_alone_does_not_tell_the_classes() -> None:
    pictures = [draw_example(0, index) for index in range(80)]
    pixels = {c: np.concatenate([image[mask == c] for image, mask in pictures]) for c in range(1, BOUNDARY)}
    means = np.array([colors.mean(axis=0) for colors in pixels.values()])
    assert np.ptp(means, axis=0).max() < 25 < min(colors.std() for colors in pixels.values())


def test_pictures_that_are_in_no_split_are_drawn_over_those_of_an_earlier_run(tmp_path: Path) -> None:
    draw_dataset(tmp_path, ShapesConfig(num_images=6))
    dataset = [path.read_bytes() for path in sorted(tmp_path.glob("images/*.jpg"))]
    for _ in range(2):
        draw_unseen(tmp_path / "drawn", ShapesConfig(num_images=4), 2)
    drawn = [path.read_bytes() for path in sorted(tmp_path.glob("drawn/*"))]
    assert drawn == dataset[4:]


def test_as_many_images_and_masks_are_drawn_as_the_settings_ask_for(tmp_path: Path) -> None:
    draw_dataset(tmp_path, ShapesConfig(num_images=4))
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [f"images/00000{n}.jpg" for n in range(4)] + [f"masks/00000{n}.png" for n in range(4)]
