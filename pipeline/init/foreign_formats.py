"""Annotations that hold masks in no form that is read here: what they are, and what to export instead."""

import re
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from components.errors import StageError
from components.folders import files_below, open_file
from components.image_mask_example_gen.layouts.coco import Coco, looks_like_coco
from components.image_mask_example_gen.layouts.layout import Options
from pipeline.init.name_patterns import escape

_BEGINNING: Final = 1 << 16
_LOOKED_AT: Final = 20
"""Files of each suffix."""


class _Format(NamedTuple):
    suffixes: str
    """One or several, spaces between."""
    marks: str
    """Regular expression, found in the beginning of each such file."""
    name: str
    advice: str
    named: str = ""
    """Regular expression, found in each such file's name."""


_NUMBER: Final = r"[ \t]+-?\d*\.?\d+(?:[eE][-+]?\d+)?"
_BOXES: Final = "boxes outline nothing: masks are needed"
_VIA: Final = "export 'Annotations (COCO format)' there"
_LABEL_STUDIO: Final = "export 'COCO' there, or of brushes 'Brush labels to COCO'"
_COCO_OR_PNG: Final = "export COCO JSON or PNG masks from the tool that wrote them"
_FORMATS: Final = (
    _Format(
        ".json",
        r'"(file_upload|completed_by|completions|annotation_id|original_width|brushlabels|polygonlabels)"',
        "Label Studio's JSON",
        _LABEL_STUDIO,
    ),
    _Format(
        ".png .npy",
        "",
        "Label Studio's brush labels, whose names do not tell their images",
        _LABEL_STUDIO,
        named=r"^task-\d+-annotation-\d+-by-",
    ),
    _Format(
        ".json",
        r'"(classTitle|classId)"|"objects"\s*:\s*\[\s*\][^\[]*"size"|"size"\s*:[^\[]*"objects"\s*:\s*\[\s*\]',
        "Supervisely's JSON",
        "export 'as masks' there (masks_machine) or 'to COCO'",
    ),
    _Format(".json", r'"(_via_\w+|shape_attributes)"', "the VGG Image Annotator's JSON", _VIA),
    _Format(".csv", r"region_shape_attributes", "the VGG Image Annotator's table", _VIA),
    _Format(
        ".json",
        r'darwin|"slot_names"|"workview_url"',
        "Darwin's JSON (V7)",
        "export 'Semantic mask' or 'COCO' there",
    ),
    _Format(
        ".json",
        r'"(label_classes|export_format_version)"',
        "Hasty's JSON",
        "export 'Semantic segmentation PNG' or 'COCO' there",
    ),
    _Format(
        ".json .ndjson",
        r'"(Labeled Data|data_row|featureId|feature_id)"',
        "Labelbox's JSON",
        "convert it to COCO or masks with labelbox's Python package",
    ),
    _Format(
        ".json",
        r'"(isPredicted|classColor|createdBy|className)"',
        "SuperAnnotate's JSON",
        "export 'COCO' there, or the fused masks",
    ),
    _Format(
        ".json",
        r'"imgHeight"',
        "Cityscapes' polygons",
        "take the *_labelIds.png beside them, or let cityscapesscripts draw them",
    ),
    _Format(".json", r'"poly2d"', "BDD100K's polygons", "take its masks, labels/sem_seg/masks"),
    _Format(
        ".json .geojson .shp",
        r'"FeatureCollection"|^\0\0\x27\n',
        "vector outlines (GIS)",
        "draw them over each image with gdal_rasterize, or export a label image",
    ),
    _Format(
        ".xml",
        r"<annotations>[\s\S]*?(<meta>|<image\s|<version>)",
        "CVAT's XML",
        "export 'Segmentation mask 1.1' or 'COCO 1.0' there",
    ),
    _Format(".xml", r"<polygon>", "LabelMe's XML (of the web tool)", _COCO_OR_PNG),
    _Format(".xml", r"<bndbox", "boxes (PASCAL VOC's XML)", _BOXES),
    _Format(
        ".csv",
        r"(?i)encoded_?pixels|\brle\b",
        "run lengths in a table (Kaggle)",
        "draw each into a PNG, one value a class",
    ),
    _Format(".csv", r"(?i)\bx_?min\b", "boxes in a table", _BOXES),
    _Format(".txt", rf"^\s*\d+(?:{_NUMBER}){{6,}}[ \t]*\r?(?:\n|$)", "YOLO's polygons", _COCO_OR_PNG),
    _Format(".txt", rf"^\s*\d+(?:{_NUMBER}){{4,5}}[ \t]*\r?(?:\n|$)", "YOLO's boxes", _BOXES),
    _Format(".npy .npz", "", "NumPy arrays", "save each as a PNG of the same name, one value a class"),
    _Format(
        ".nii .gz .dcm .nrrd .mha",
        "",
        "medical volumes",
        "save each slice as a PNG, one value a class, and its image likewise",
    ),
    _Format(".tfrecord .record", "", "TFRecords of a form of their own", _COCO_OR_PNG),
    _Format(".svg .psd .xcf .ai", "", "drawings", "save each as a PNG, one value or colour a class"),
)


def name_foreign_format(masks: Path) -> str | None:
    """Says in one line what the folder or file ``--masks`` holds in place of masks, and what to do.

    None where nothing is recognised.
    """
    files = [masks] if masks.is_file() else [masks / file for file in files_below(masks, onerror=None)]
    looked_at: Counter[str] = Counter()
    found: dict[_Format, list[Path]] = {}
    for file in files:
        suffix = file.suffix.lower()
        looked_at[suffix] += 1
        if looked_at[suffix] <= _LOOKED_AT and (kind := _format_of(file, suffix)):
            found.setdefault(kind, []).append(file)
    # It takes reading all of a list, which is done for these alone.
    if not found or (masks.is_file() and _is_coco(masks)):
        return None
    kind = max(found, key=lambda kind: len(found[kind]))
    count = sum(looked_at[suffix] for suffix in {file.suffix.lower() for file in found[kind]})
    what = "is" if masks.is_file() else f"holds {count} {'file' if count == 1 else 'files'} of"
    example = "" if masks.is_file() else f" ({found[kind][0].relative_to(masks).as_posix()})"
    return f"--masks: {masks} {what} {kind.name}{example}, from which no masks are read: {kind.advice}"


def _is_coco(path: Path) -> bool:
    """Whether a file is a COCO list, whichever tool's name stands in it."""
    try:
        return looks_like_coco(path) and bool(
            Coco(Options(masks=escape(path.name))).categories(path.parent)[0]
        )
    except (OSError, StageError):
        return False


def _format_of(file: Path, suffix: str) -> _Format | None:
    formats = [
        kind for kind in _FORMATS if suffix in kind.suffixes.split() and re.search(kind.named, file.name)
    ]
    if not formats:
        return None
    try:
        with open_file(file) as opened:
            beginning = opened.read(_BEGINNING).decode("utf-8", "replace").lstrip("\ufeff")
    except OSError:
        return None
    return next((kind for kind in formats if re.search(kind.marks, beginning)), None)
