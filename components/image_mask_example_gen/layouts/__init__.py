"""The known datasets by name, each in a file of its own."""

from typing import Final

from components.image_mask_example_gen.layouts.clothing_co_parsing import ClothingCoParsing
from components.image_mask_example_gen.layouts.kitti_semantics import KittiSemantics
from components.image_mask_example_gen.layouts.layout import Layout
from components.image_mask_example_gen.layouts.oxford_iiit_pet import OxfordIiitPet

DATASETS: Final[dict[str, Layout]] = {
    dataset.name: dataset for dataset in (OxfordIiitPet(), KittiSemantics(), ClothingCoParsing())
}
