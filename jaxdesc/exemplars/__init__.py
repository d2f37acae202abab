"""Exemplars of a unit: the probe images on which it is most active.

A unit that fires on three images has three exemplars, not three and the first 37 images of the
folder. From the n images with the largest activations two kinds are removed:

(a) images tied at the unit's lowest value, if there are two or more of them: it rests there;
(b) images tied at the n-th largest value, if the next image has that value too: a cut through a tie
    is arbitrary.

If no image is left although the unit is not constant, more than n images share its largest value.
Then n of these are drawn by a seeded hash of their names, regardless of the images' order, and the
unit is flagged.

Activations, dense or sparse, are merged batch by batch into the best of every unit, in one pass. So
memory is units × n + batch for any number of images, and of sparse ones zeros are never held. Equal
activations are ordered by image index, the lower first, so batches may come in any order.
"""

from jaxdesc.exemplars.rule import Exemplars as Exemplars
from jaxdesc.exemplars.rule import Slots as Slots
from jaxdesc.exemplars.search import Batch as Batch
from jaxdesc.exemplars.search import exemplars as exemplars
from jaxdesc.exemplars.search import find as find

__all__ = ["Batch", "Exemplars", "Slots", "exemplars", "find"]
