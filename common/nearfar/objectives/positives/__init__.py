r"""Which keys are the positives of which rows, and the weighted sum of them that the numerator needs.

The numerator of every softmax loss is linear in the keys, :math:`\langle q_i, t_i \rangle / W_i` with
:math:`t_i = \sum_j w_{ij} k_j` and :math:`W_i = \sum_j w_{ij}`. Each form of positives computes t and W
without the N x M matrix w: a shift, class sums, a sparse product, a low-rank product.
"""

from nearfar.objectives.positives.other_groups import OtherGroups
from nearfar.objectives.positives.pairs import Pairs
from nearfar.objectives.positives.resolve import Positives, resolve
from nearfar.objectives.positives.resolved import Resolved
from nearfar.objectives.positives.soft import Soft

__all__ = ["OtherGroups", "Pairs", "Positives", "Resolved", "Soft", "resolve"]
