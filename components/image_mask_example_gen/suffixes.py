"""Which files are pictures, by their names."""

from typing import Final

PICTURES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
    | {".jp2", ".j2k", ".jpf", ".jpx"}
    | {".pbm", ".pgm", ".pnm", ".ppm"}
)
"""Suffixes, in lower case, of what is read as a picture."""
MASKS: Final = PICTURES | {".mat"}
"""Likewise of what is read as a mask."""
UNREAD_PICTURES: Final = frozenset(
    {".heic", ".heif", ".hif", ".avif", ".jxl"}
    | {".psd", ".xcf", ".tga", ".exr", ".hdr", ".svg", ".eps", ".pcx"}
    | {".raw", ".cr2", ".cr3", ".crw", ".dng", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"}
    | {".dcm", ".nii", ".nrrd", ".mha", ".mhd", ".npy", ".npz", ".svs", ".ndpi", ".czi", ".sid", ".ecw"}
)
"""Suffixes, in lower case, of pictures that nothing here reads: to be named, not passed by."""
