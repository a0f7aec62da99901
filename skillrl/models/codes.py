"""Codes of vectors: a VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937) whose codes follow what they stand for.

    x → e(x) → nearest code → d(code) ≈ x

Codes are moving averages of the e(x) nearest to them. One that nothing is near to stays where it is, for ever, unless
it is moved: ``resample`` sends it to where what is encoded is far from every code (as k-means++ does).
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skillrl.models.encoder import layers
from skillrl.skill_spaces import one_hot
from skillrl.spec import Metrics

DECAY = 0.99  # of the averages
COMMITMENT = 1e-4  # how much e(x) is drawn to its code


class Codes(nn.Module):
    """``n`` codes of ``dim`` axes for vectors (..., in_dim).

    Buffers: codes (n, dim); sums (n, dim) and counts (n,), whose ratio they are; uses (n,) since the newest resampling.
    """

    codes: Tensor
    sums: Tensor
    counts: Tensor
    uses: Tensor

    def __init__(self, n: int, dim: int, in_dim: int, hidden_dims: Sequence[int]):
        super().__init__()
        self.encoder = nn.Sequential(*layers(in_dim, hidden_dims), nn.Linear(hidden_dims[-1], dim))
        self.decoder = nn.Sequential(*layers(dim, hidden_dims), nn.Linear(hidden_dims[-1], in_dim))
        self.register_buffer("codes", torch.rand(n, dim))
        self.register_buffer("sums", self.codes.clone())
        self.register_buffer("counts", torch.ones(n))
        self.register_buffer("uses", torch.zeros(n))

    def nearest(self, encoded: Tensor) -> Tensor:
        """The numbers (...) of the codes that are nearest to encoded (..., dim)."""
        return torch.cdist(encoded, self.codes).argmin(-1)

    def number(self, x: Tensor) -> Tensor:
        """The code of x (..., in_dim), (...)."""
        return self.nearest(self.encoder(x))

    def decoded(self) -> Tensor:
        """What each code stands for, (n, in_dim)."""
        return self.decoder(self.codes)

    def loss(self, x: Tensor) -> tuple[Tensor, Tensor, Metrics]:
        """Of x (N, in_dim); e(x), (N, dim), without gradient; metrics."""
        encoded = self.encoder(x)
        code = self.codes[self.nearest(encoded.detach())]
        through = encoded + (code - encoded).detach()
        reconstruction, commitment = F.mse_loss(self.decoder(through), x), F.mse_loss(encoded, code)
        loss = reconstruction + COMMITMENT * commitment
        return loss, encoded.detach(), {"codes/loss": reconstruction.detach(), "codes/distance": commitment.detach()}

    @torch.no_grad()
    def follow(self, encoded: Tensor) -> None:
        """Move the codes towards the means of the encoded (N, dim) that are nearest to them."""
        mine = one_hot(self.nearest(encoded), len(self.codes))  # (N, n)
        used = mine.sum(0)
        self.uses += used
        self.counts.lerp_(used, 1 - DECAY)
        self.sums.lerp_(mine.T @ encoded, 1 - DECAY)
        there = (used > 0).unsqueeze(-1)
        self.codes.copy_(torch.where(there, self.sums / self.counts.clamp(min=1e-8).unsqueeze(-1), self.codes))

    @torch.no_grad()
    def perplexity(self) -> Tensor:
        """exp of the entropy of the codes' running use, (): n if all are used alike."""
        share = self.counts / self.counts.sum()
        return (-(share * share.clamp(min=1e-12).log()).sum()).exp()

    @torch.no_grad()
    def resample(self, encoded: Tensor, generator: Generator | None) -> int:
        """Move each code that was not used to one of encoded (N, dim), drawn in proportion to its distance to the
        nearest code; then count the uses anew. How many were moved. It looks at values: host work, for ``maintain``."""
        unused = (self.uses == 0).nonzero().squeeze(-1).tolist()
        moved = 0
        for number in unused:
            distance = torch.cdist(encoded, self.codes).amin(-1)
            if not bool(distance.sum() > 0):
                break
            there = encoded[torch.multinomial(distance, 1, generator=generator)[0]]
            self.codes[number], self.sums[number], self.counts[number] = there, there, 1.0
            moved += 1
        self.uses.zero_()
        return moved
