"""Prior thresholds: divide each probability by its class's prior, then take the largest.

On logits that is the bias `-log(prior)`, so it decides every row as logit adjustment at tau = 1 does. The prior is the
one seen in training, after any re-sampling.

Source: Buda, Maki & Mazurowski, "A systematic study of the class imbalance problem in convolutional neural networks"
(2018), section 3.2 (thresholding).
"""

import numpy as np

from calibrate.methods.task import Fitted, Task
from calibrate.operating_point import OperatingPoint


def fit_prior_threshold(task: Task) -> Fitted:
    """The bias `-log(prior)`. Raises: `MissingPrior`."""
    prior = task.needed_prior()
    return Fitted(OperatingPoint(task.classes, np.ones(prior.size), -np.log(prior)), rows_had_a_say=False)
