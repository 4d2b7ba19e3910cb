"""The known datasets by name, each in a file of its own."""

from typing import Final

from components.image_mask_example_gen.layouts.ade20k import Ade20k
from components.image_mask_example_gen.layouts.cityscapes import Cityscapes
from components.image_mask_example_gen.layouts.clothing_co_parsing import ClothingCoParsing
from components.image_mask_example_gen.layouts.coco import Coco
from components.image_mask_example_gen.layouts.kitti_semantics import KittiSemantics
from components.image_mask_example_gen.layouts.labelme import LabelMe
from components.image_mask_example_gen.layouts.layout import Layout
from components.image_mask_example_gen.layouts.oxford_iiit_pet import OxfordIiitPet
from components.image_mask_example_gen.layouts.tfds import Tfds
from components.image_mask_example_gen.layouts.voc import Voc

DATASETS: Final[dict[str, type[Layout]]] = {
    layout.name: layout
    for layout in (
        OxfordIiitPet,
        KittiSemantics,
        ClothingCoParsing,
        Voc,
        Cityscapes,
        Ade20k,
        Coco,
        LabelMe,
        Tfds,
    )
}
