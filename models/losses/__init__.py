"""What training minimises: `SegmentationLoss`, a weighted sum of terms, one small file a family."""

from models.losses.segmentation_loss import SegmentationLoss

__all__ = ["SegmentationLoss"]
