"""Class weights of the loss, from how often the classes occur."""

from collections.abc import Callable, Sequence
from math import expm1
from statistics import fmean, median

from models.options import ClassWeighting


def class_weights(method: ClassWeighting, pixel_counts: Sequence[int]) -> list[float]:
    """Returns a factor for each class.

    A class without a pixel weighs 0 and leaves the others alone: training cannot learn it, and where it
    appears only in the validation split, it must not drown the rest.

    Every method depends on the classes' shares of the pixels alone, so the same scenes at twice the
    resolution, or twice as many of them, get the same weights.

    Args:
        method: one of

            - ``none``: 1.
            - ``inverse``: one over the frequency; the mean over the classes is 1.
            - ``median_frequency``: the median frequency over the class's own, so that classes commoner
              than the median weigh less than 1. After Eigen and Fergus 2015 ("Predicting Depth, Surface
              Normals and Semantic Labels"), as used in SegNet (Badrinarayanan et al. 2015). They measure a
              class's frequency in the images that show it; here it is its share of all counted pixels,
              which one pass over the masks gives.
            - ``effective_number``: one over the effective number of samples ``(1 - b^n) / (1 - b)``,
              ``b = (N - 1) / N``, of Cui et al. 2019 ("Class-Balanced Loss Based on Effective Number of
              Samples"); as there, the mean over the classes is 1. N is the number of samples that say all
              there is to say about a class. Pixels repeat their neighbours, so no fixed N fits every
              resolution, and the paper's 10 to 10,000 make all classes alike; N is here the pixels that
              a class would have if all had equally many. Classes much rarer than that weigh as with
              ``inverse``, commoner ones nearly alike.
        pixel_counts: pixels of each class in the training split, ignored ones left out.

    Raises:
        ValueError: no class has a pixel, or the method is unknown.
    """
    present = [count for count in pixel_counts if count > 0]
    if not present:
        raise ValueError("no class has a pixel; class weights need masks with at least one counted pixel")
    middle = median(present)
    even = fmean(present)
    weighting: dict[ClassWeighting, Callable[[int], float]] = {
        "none": lambda count: 1.0,
        "inverse": lambda count: 1 / count,
        "median_frequency": lambda count: middle / count,
        # b^n = (1 - 1/N)^n is exp(-n/N) to all digits that matter where N counts pixels.
        "effective_number": lambda count: -1 / expm1(-count / even),
    }
    if method not in weighting:
        raise ValueError(f"class weighting {method!r} is unknown; there are {', '.join(weighting)}")
    weights = [weighting[method](count) if count > 0 else 0.0 for count in pixel_counts]
    if method == "median_frequency":
        return weights
    mean = sum(weights) / len(present)
    return [weight / mean for weight in weights]
