"""Sizes that follow from a network's depth; imports nothing, so settings can be checked without Keras."""


def stride(depth: int) -> int:
    """Returns by how many pixels the deepest level of a network of ``depth`` levels steps.

    Between two levels height and width are halved, so both must be divisible by this number.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}; a network has at least 1 level")
    return 2 ** (depth - 1)
