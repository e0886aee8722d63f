"""The EDM sampler: Heun's second-order method with optional churn, and Euler's (arXiv 2206.00364).

    (1) σ_i = (σ_max^(1/ρ) + i/(N−1)·(σ_min^(1/ρ) − σ_max^(1/ρ)))^ρ, i < N; σ_N = 0      [Eq. 5]
    (2) dx/dσ = (x − D(x; σ)) / σ                                                        [Eq. 1, 3]
    (3) churn: σ̂ = σ_i(1+γ), x ← x + √(σ̂² − σ_i²)·S_noise·ε, γ = min(S_churn/N, √2 − 1)   [Alg. 2]
    (4) Euler: x' = x̂ + (σ_{i+1} − σ̂)·d;  Heun: the same with the mean of d and the slope at x'

A run is a list of evaluations, one row each, so the network appears once in the compiled program.
A Heun step is two rows (predict, correct), but the last one, to σ = 0, is a single Euler row.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Euler:
    """First-order sampler with the EDM noise schedule; N evaluations.

    Settings:
      num_steps: number of steps N
      sigma_min: lowest noise level before 0
      sigma_max: noise level of the start
      rho: exponent of the schedule; larger = more steps at low noise
      s_churn: amount of fresh noise over all steps; 0 = deterministic
      s_min: lowest noise level that gets fresh noise
      s_max: highest noise level that gets fresh noise
      s_noise: standard deviation of the fresh noise
    """

    num_steps: int = 32
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    s_churn: float = 0.0
    s_min: float = 0.0
    s_max: float = float('inf')
    s_noise: float = 1.0

    order = 1

    def __post_init__(self):
        if self.num_steps < 2:
            raise ValueError(f'num_steps ({self.num_steps}) must be at least 2')
        if not 0 < self.sigma_min < self.sigma_max < float('inf'):
            raise ValueError(
                f'sigma_min ({self.sigma_min}) and sigma_max ({self.sigma_max}) must be '
                '0 < sigma_min < sigma_max < inf'
            )
        if self.rho <= 0 or self.s_churn < 0 or self.s_noise < 0:
            raise ValueError(
                f'rho ({self.rho}) must be > 0; s_churn ({self.s_churn}) and s_noise '
                f'({self.s_noise}) must be ≥ 0'
            )

    def schedule(self):
        """Noise levels σ_0 … σ_N = 0, float64 [num_steps + 1]; Eq. (1)."""
        ramp = np.arange(self.num_steps) / (self.num_steps - 1)
        high, low = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        return np.append((high + ramp * (low - high)) ** self.rho, 0.0)

    def rows(self):
        """One row per evaluation of the denoiser: sigma, step, churn, correct, index; float64."""
        sigmas, rows = self.schedule(), []
        for i, (sigma, after) in enumerate(zip(sigmas[:-1], sigmas[1:])):
            churned = self.s_churn > 0 and self.s_min <= sigma <= self.s_max
            gamma = min(self.s_churn / self.num_steps, np.sqrt(2) - 1) if churned else 0.0
            hat = sigma * (1 + gamma)
            noise = np.sqrt(hat**2 - sigma**2) * self.s_noise
            rows.append((hat, after - hat, noise, False, i))
            if self.order == 2 and after > 0:
                rows.append((after, after - hat, 0.0, True, i))
        sigma, step, churn, correct, index = (np.array(column) for column in zip(*rows))
        return {'sigma': sigma, 'step': step, 'churn': churn, 'correct': correct, 'index': index}

    def sigmas(self):
        """The noise levels at which the denoiser is evaluated, in order, float64 [NFE]."""
        return self.rows()['sigma']

    def __call__(self, denoise, noise, keys):
        """x0 [n, …] from unit noise [n, …]; keys [n] feed the churn. float32 throughout."""
        return self.run(denoise, noise, keys)[0]

    def trajectory(self, denoise, noise, keys):
        """The samples at every noise level of `schedule`, [num_steps + 1, n, …]."""
        corrects = np.append(self.rows()['correct'], False)
        x = noise.astype(jnp.float32) * np.float32(self.sigma_max)
        after = self.run(denoise, noise, keys, lambda x: x)[1]
        return jnp.concatenate([x[None], after[np.flatnonzero(~corrects[1:])]])

    def run(self, denoise, noise, keys, keep=lambda x: None):
        """(x0, what keep makes of the samples after every evaluation, stacked)."""
        rows = self.rows()
        churns = bool(np.any(rows['churn'] > 0))

        def evaluate(carry, row):
            x, start, slope = carry
            if churns:
                add = lambda x: x + row['churn'] * fresh_noise(keys, row['index'], x.shape[1:])
                x = jax.lax.cond(row['churn'] > 0, add, lambda x: x, x)
            start = jnp.where(row['correct'], start, x)
            d = (x - denoise(x, row['sigma'])) / row['sigma']
            slope = jnp.where(row['correct'], 0.5 * (slope + d), d)
            x = start + row['step'] * slope
            return (x, start, slope), keep(x)

        to_device = {'correct': bool, 'index': np.int32}
        rows = {k: jnp.asarray(v, to_device.get(k, np.float32)) for k, v in rows.items()}
        x = noise.astype(jnp.float32) * np.float32(self.sigma_max)
        (x, _, _), kept = jax.lax.scan(evaluate, (x, x, jnp.zeros_like(x)), rows)
        return x, kept


@dataclass(frozen=True)
class Heun(Euler):
    """Second-order sampler of EDM and EDM2; 2N − 1 evaluations. Settings as Euler's."""

    order = 2


def fresh_noise(keys, index, shape):
    """Unit noise [n, *shape] of churn step `index`, a function of each sample's own key."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), shape))(keys)
