"""Looks inside: error fields of main network and guide, and samples on their way."""

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax import config, files, pairs
from autoguide_jax.generation import CHURN, NOISE, bind, guided, program_key, stream
from autoguide_jax.metrics.points import PointScores
from autoguide_jax.study.toy import fields

FIRST_SEED = 0  # of the samples; all settings share their starting points
FIELD_POINTS = 2**13


class Probe:
    """The probe of one study; its rows go to fields.jsonl and are never redone."""

    def __init__(self, study):
        self.study, self.classes = study, study.settings.classes
        self.file = study.workdir / 'fields.jsonl'
        self.done = {row['key'] for row in files.read_jsonl(self.file)}
        self.jitted, self.outcomes = {}, {}
        sampler = config.resolved(study.settings.sampler)
        self.basis = [self.classes, sampler, FIELD_POINTS, list(fields.SIGMAS)]

    def paths(self, pair, count):
        """Samples of a pair on their way, [num_steps + 1, count, 2], from the shared starts."""
        calls, rules = self.study.networks.calls(pair)

        def run(variables, rules, seeds):
            bound = bound_to(calls, variables)
            denoise = guided(rules, bound[0], bound[1:], None)
            keys = [jax.vmap(lambda s, p=p: stream(s, p))(seeds) for p in (NOISE, CHURN)]
            start = self.study.start(keys[0], (2,))
            return self.study.sampler.trajectory(denoise, start, keys[1])

        run = self.compiled(('paths', program_key(calls, rules)), run)
        seeds = np.arange(FIRST_SEED, FIRST_SEED + count, dtype=np.uint32)
        rules = jax.tree.map(np.float32, tuple(rules))
        return np.asarray(run([c.network.variables for c in calls], rules, seeds))

    def compiled(self, key, function):
        """The jitted function of this key, made once; weights are its arguments."""
        return self.jitted.setdefault(key, jax.jit(function))

    def field(self, pair, whole, tags):
        """A row of fields.jsonl: errors of main and guide over p(x; σ) and along main's paths.

        whole: the Pair of the network before its corruption, whose errors count as none; None to
        count from the truth, which also tells main's samples that end as outliers from the rest.
        Returns the row's key.
        """
        key = files.content_hash([*self.basis, pairs.identity(pairs.settled(pair)), tags])
        if key in self.done:
            return key
        calls = self.study.networks.calls(pair)[0][:2] + (
            self.study.networks.calls(whole)[0] if whole else []
        )
        truth = fields.exact(self.classes)

        def run(variables, x, sigma):
            bound = bound_to(calls, variables)
            return fields.errors(bound[:2], bound[2] if whole else truth)(x, sigma)

        run = self.compiled(('errors', tuple(c.architecture() for c in calls)), run)
        variables = [c.network.variables for c in calls]
        x = fields.data(self.classes, FIELD_POINTS // 8 if whole else FIELD_POINTS)
        row = {
            'key': key,
            **tags,
            'data': fields.table(*run(variables, x, fields.LEVELS), fields.SIGMAS),
        }
        if not whole:
            path, out = self.outcome(pair.main)
            levels = self.study.sampler.schedule()[:-1]
            found = run(variables, path[:-1], levels.astype(np.float32))
            for name, chosen in (('outliers', out), ('rest', ~out)):
                row[name] = fields.table(*found, levels, chosen)
        files.append_jsonl(self.file, row)
        self.done.add(key)
        return key

    def outcome(self, main):
        """Paths of the main network alone, and which of its samples end as outliers."""
        alone = pairs.settled(pairs.Pair(main=main))
        key = files.content_hash(pairs.identity(alone))
        if key not in self.outcomes:
            path, scores = self.paths(alone, FIELD_POINTS), PointScores(self.classes)
            self.outcomes = {key: (path, scores.log_prob(path[-1]) < scores.reference[0][1])}
        return self.outcomes[key]


def bound_to(calls, variables):
    """(x, sigma) → x0 of every Call, with these variables and no labels."""
    none = jnp.int32(-1)
    return [bind(call.network.denoiser, v, none, call) for call, v in zip(calls, variables)]
