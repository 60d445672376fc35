"""One contrast, made ready: operands of the comparison, positives, denominator, and who holds what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nearfar.objectives.contrast_stats import ContrastStats
from nearfar.objectives.denominator import All, Nothing, NotPositive, NotSelf, Rule
from nearfar.objectives.denominator.combine import has_part, with_positives
from nearfar.objectives.direction import Direction, log_add
from nearfar.objectives.joint import Selection
from nearfar.objectives.logsumexp import Backend, log_sum_exp
from nearfar.objectives.maxima import beats, row_counts, row_maxima
from nearfar.objectives.positives import Positives, Resolved, resolve
from nearfar.objectives.ranks import Ranks
from nearfar.objectives.similarity import Comparison
from nearfar.objectives.views import at_least_float32

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from nearfar.objectives.queue import KeyQueue


@dataclass(frozen=True, eq=False)
class Problem:
    """A contrast of B problems (flattened leading dimensions), N rows and M keys.

    Attributes:
        anchors: Left operand, shape ``(B, N, d)``.
        keys: Right operand of this process, shape ``(B, M, d)``; the same object as ``anchors`` where one operand
            serves both sides.
        all_keys: Right operand of all processes, shape ``(B, M', d)``.
        to_rows: Positives of the rows.
        to_keys: Positives of the keys.
        denominator: The rule as asked for.
        include_positive: Whether positives belong to the denominator.
        itself: Whether rows are contrasted with themselves.
        ranks: Who holds which rows and keys.
        row_weight: Weight of every row in the mean, shape ``(B or 1, N)``; ``None`` for ones.
        outside: Keys from outside the batch with the rule for them: operands ``(B, R, d)``, or ``(B, N, R, d)`` for
            every row's own, each beside the left operand they are compared with.
    """

    anchors: Tensor
    keys: Tensor
    all_keys: Tensor
    to_rows: Resolved
    to_keys: Resolved
    denominator: Rule
    include_positive: bool
    itself: bool
    ranks: Ranks
    row_weight: Tensor | None
    outside: tuple[tuple[Tensor, Tensor, Rule], ...]

    @classmethod
    def of(
        cls,
        q: Tensor,
        k: Tensor | None,
        positives: Positives,
        denominator: Rule | None,
        comparison: Comparison,
        *,
        symmetric: bool,
        include_positive: bool,
        key_log_weight: Tensor | None,
        row_weight: Tensor | None,
        extra_negatives: Tensor | None,
        queue: KeyQueue | None,
        group: ProcessGroup | None,
    ) -> Problem:
        """From the arguments of ``contrast``, checked one by one.

        Args:
            q: Shape ``(..., N, d)``.
            k: Shape ``(..., M, d)`` or ``None``.
            positives: As of ``contrast``.
            denominator: As of ``contrast``.
            comparison: Similarity and scale.
            symmetric: As of ``contrast``.
            include_positive: As of ``contrast``.
            key_log_weight: Shape ``(M,)`` or ``(..., M)``.
            row_weight: Shape ``(N,)`` or ``(..., N)``.
            extra_negatives: Shape ``(R, d)`` or ``(..., N, R, d)``.
            queue: As of ``contrast``.
            group: As of ``contrast``.

        Raises:
            ValueError: If they do not fit together.
        """
        itself, num_rows, num_keys = k is None, q.shape[-2], (q if k is None else k).shape[-2]
        to_rows, to_keys = resolve(positives, q.shape[:-2], num_rows, num_keys, itself=itself)
        if denominator is None and queue is not None:
            denominator = Nothing()
        denominator = _checked(denominator, q.shape[:-2], num_rows, num_keys, itself=itself)
        if symmetric and has_part(denominator, Nothing):
            raise ValueError(
                "symmetric: keys of the batch in the denominator expected, got Nothing()"
                f"{', the default with a queue' if queue is not None else ''}; pass denominator=All()"
            )
        ranks = Ranks.of(group, num_rows, num_keys, q.device)
        denominator = _of_all(denominator, ranks)

        flat, flat_k = _flattened(q), None if k is None else _flattened(k)
        if comparison.similarity == "neg_sqdist":
            comparison = replace(comparison, centre=ranks.mean_key(flat if flat_k is None else flat_k))
        shared = comparison.both(flat) if itself else None
        if shared is not None:
            anchors = keys = shared
        else:
            weight = None if key_log_weight is None else key_log_weight.to(flat).reshape(-1, num_keys)
            anchors = comparison.anchors(flat)
            keys = comparison.keys(flat if flat_k is None else flat_k, weight)
        outside: tuple[tuple[Tensor, Tensor, Rule], ...] = ()
        if extra_negatives is not None or (queue is not None and len(queue)):
            left = anchors if shared is None else comparison.anchors(flat)
            outside = tuple(_outside(left, comparison, denominator, extra_negatives, queue))
        return cls(
            anchors,
            keys,
            ranks.gather(keys),
            to_rows.gathered(ranks),
            to_keys.gathered(ranks.transposed()),
            denominator,
            include_positive and not has_part(denominator, NotPositive),
            itself,
            ranks,
            None if row_weight is None else row_weight.to(flat).reshape(-1, num_rows),
            outside,
        )

    def asked(
        self, positives: Positives, denominator: Rule | None, lead: torch.Size, *, include_positive: bool
    ) -> Problem:
        """The same operands with other positives and another denominator.

        Args:
            positives: As of ``contrast``.
            denominator: As of ``contrast``.
            lead: Leading dimensions of ``q``.
            include_positive: As of ``contrast``.

        Raises:
            ValueError: If they do not fit.
        """
        num_rows, num_keys = self.anchors.shape[1], self.keys.shape[1]
        to_rows, to_keys = resolve(positives, lead, num_rows, num_keys, itself=self.itself)
        denominator = _checked(denominator, lead, num_rows, num_keys, itself=self.itself)
        return replace(
            self,
            to_rows=to_rows.gathered(self.ranks),
            to_keys=to_keys.gathered(self.ranks.transposed()),
            denominator=_of_all(denominator, self.ranks),
            include_positive=include_positive and not has_part(denominator, NotPositive),
        )

    def directions(self, *, symmetric: bool, backend: Backend) -> list[Direction]:
        """Rows over keys and, if wanted, keys over rows.

        Args:
            symmetric: Whether both are wanted.
            backend: As of ``contrast``.
        """
        logit, weight = self._positive_logit()
        key_lse = None
        alone = self.to_rows.single and not self.denominator.weighted
        if has_part(self.denominator, Nothing) and (alone or not self.include_positive):
            # Of the batch at most the positive itself.
            lse = torch.where((weight > 0) & self.include_positive, logit, -torch.inf)
        else:
            lse, key_lse = self.ranks.log_sum_exp(
                self.anchors,
                self.all_keys,
                self._rule(include_positive=self.include_positive),
                itself=self.anchors is self.keys,
                columns=symmetric,
                backend=backend,
            )
        for left, right, rule in self.outside:
            if right.dim() == 3:
                more = log_sum_exp(left, right, rule, backend=backend)[0].reshape_as(lse)
            else:
                more = torch.einsum("bnd,bnrd->bnr", left, right).logsumexp(-1)
            lse = log_add(lse, more)
        certain = self.include_positive and self.to_rows.always
        directions = [Direction(lse, logit, weight, certain, self.row_weight)]
        if key_lse is not None:
            rows = self.anchors if self.to_keys.local else self.ranks.transposed().gather(self.anchors)
            logit, weight = self.to_keys.logit(self.keys, rows)
            certain = self.include_positive and self.to_keys.always
            directions.append(Direction(key_lse, logit, weight, certain, self.row_weight))
        return directions

    def jointly(
        self, others: Sequence[Problem], scales: Sequence[float | Tensor], backend: Backend
    ) -> list[Direction]:
        """Rows over keys, for this problem and others with the same operands, from the same logits.

        Args:
            others: Made of this one by :meth:`asked`.
            scales: Factor of the logits of each, this one's first: a number, or one a row, ``(B or 1, N or 1)``.
            backend: As of ``contrast``.
        """
        problems = (self, *others)
        selections = [
            Selection(problem._rule(include_positive=problem.include_positive), scale)
            for problem, scale in zip(problems, scales, strict=True)
        ]
        sums = self.ranks.log_sum_exps(
            self.anchors, self.all_keys, selections, itself=self.anchors is self.keys, backend=backend
        )
        directions = []
        for problem, scale, lse in zip(problems, scales, sums, strict=True):
            logit, weight = problem._positive_logit()
            certain = problem.include_positive and problem.to_rows.always
            directions.append(Direction(lse, logit * scale, weight, certain))
        return directions

    def stats(self, direction: Direction, shape: torch.Size) -> ContrastStats:
        """What is known about the rows.

        Args:
            direction: Rows over keys.
            shape: Wanted shape of the results, ``(..., N)``.
        """
        order = self.ranks.order(self.anchors.device)
        maximum = row_maxima(self.anchors, self.all_keys, self._rule(include_positive=False), order)
        size = row_counts(
            self.anchors, self.all_keys, self._rule(include_positive=self.include_positive), order
        )
        for left, right, rule in self.outside:
            if right.dim() == 3:
                more = row_maxima(left, right, rule).reshape_as(maximum)
                count = row_counts(left, right, rule).reshape_as(size)
            else:
                more = torch.einsum("bnd,bnrd->bnr", left, right).amax(-1)
                count = torch.full_like(size, right.shape[-2])
            maximum, size = torch.maximum(maximum, more), size + count
        valid, weight = direction.counts, direction.weight.expand_as(direction.lse)
        top1 = beats(direction.logit, maximum) & valid
        values = (direction.lse, direction.logit, weight, size, top1, valid)
        return ContrastStats(*(value.detach().reshape(shape) for value in values))

    def _positive_logit(self) -> tuple[Tensor, Tensor]:
        return self.to_rows.logit(self.anchors, self.keys if self.to_rows.local else self.all_keys)

    def _rule(self, *, include_positive: bool) -> Rule:
        return with_positives(
            self.denominator, self.to_rows.rule, include=include_positive, itself=self.itself
        )


def _checked(
    denominator: Rule | None, lead: torch.Size, num_rows: int, num_keys: int, *, itself: bool
) -> Rule:
    """The denominator, with a default, and without the row itself in self-contrast."""
    if denominator is None:
        denominator = NotSelf() if itself else All()
    if not isinstance(denominator, Rule):
        raise ValueError(
            "denominator: a rule of nearfar.objectives.denominator, such as NotSelf(), expected, got "
            f"{denominator!r}"
        )
    denominator.check(lead, num_rows, num_keys)
    if itself and not (isinstance(denominator, NotSelf) and denominator.offset == 0):
        denominator = NotSelf() & denominator
    return denominator


def _of_all(denominator: Rule, ranks: Ranks) -> Rule:
    """The rule of the whole batch."""
    if ranks.group is None:
        return denominator
    return denominator.gathered(ranks.gather_rows, ranks.gather_keys)


def _flattened(x: Tensor) -> Tensor:
    """Shape ``(B, N, d)``, at least single precision."""
    return at_least_float32(x.flatten(0, -3) if x.dim() > 2 else x[None])


def _outside(
    left: Tensor, comparison: Comparison, denominator: Rule, extra: Tensor | None, queue: KeyQueue | None
) -> Iterator[tuple[Tensor, Tensor, Rule]]:
    if queue is not None and len(queue):
        keys = comparison.keys(queue.keys.detach().to(left)[None])
        yield left, keys.expand(len(left), -1, -1), denominator.for_other_keys(queue.ids)
    if extra is not None and extra.dim() == 2:
        # The same keys for all problems: one problem of all their rows.
        yield left.flatten(0, 1)[None], comparison.keys(extra.to(left.dtype)[None]), All()
    elif extra is not None:
        own = comparison.keys(
            extra.to(left.dtype).flatten(0, -4) if extra.dim() > 3 else extra.to(left.dtype)[None]
        )
        yield left, own, All()
