"""Looks inside: error fields of main network and guide, and samples on their way."""

import jax
import jax.numpy as jnp
import numpy as np

from autoguide_jax import config, files, mesh, pairs
from autoguide_jax.generation import bind, guided, program_key
from autoguide_jax.metrics.points import PointScores
from autoguide_jax.seeds import CHURN, NOISE, stream
from autoguide_jax.study.toy import fields

FIRST_SEED = 0  # of the samples; all settings share their starting points
FIELD_POINTS = 2**13


class Probe:
    """The probe of one study; its rows go to fields.jsonl and are never redone."""

    def __init__(self, study):
        self.study, self.classes = study, study.settings.classes
        self.file = study.workdir / 'fields.jsonl'
        self.done = {row['key'] for row in files.read_jsonl(self.file)}
        self.jitted, self.kept = {}, {}
        sampler = config.resolved(study.settings.sampler)
        self.basis = [self.classes, sampler, FIELD_POINTS, list(fields.SIGMAS)]

    def field(self, pair, whole, tags):
        """A row of fields.jsonl: errors of main and guide over p(x; σ) and along main's paths.

        whole: the network (NetworkRef) before its corruption, whose errors count as none; None to
        count from the truth, which also tells main's samples that end as outliers from the rest.
        Returns the row's key.
        """
        key = files.content_hash([*self.basis, pairs.identity(pairs.settled(pair)), tags])
        if key in self.done:
            return key
        points = FIELD_POINTS // 8 if whole else FIELD_POINTS
        places = points, fields.data(self.classes, points), fields.LEVELS
        found = self.errors(pair, whole, *places)
        row = {'key': key, **tags, 'data': fields.table(*found, fields.SIGMAS)}
        if not whole:
            path, out = self.outcome(pair.main)
            levels = self.study.sampler.schedule()[:-1]
            places = ('path', name_of(pair.main)), path[:-1], levels.astype(np.float32)
            found = self.errors(pair, None, *places)
            for group, chosen in (('outliers', out), ('rest', ~out)):
                row[group] = fields.table(*found, levels, chosen)
        files.append_jsonl(self.file, row)
        self.done.add(key)
        return key

    def errors(self, pair, whole, where, x, levels):
        """e_m, e_0 [k, n, 2] of main network and guide at points x [k, n, 2] of levels [k].

        where names the points: what is known there of truth, main and whole is not asked again.
        Of two guides the first counts.
        """
        main, guide = self.study.networks.calls(pair)[0][:2]
        at = lambda ref, call: self.keep(
            (where, name_of(ref)), lambda: self.denoised(call, x, levels)
        )
        if whole:
            target = at(whole, self.study.networks.calls(pairs.Pair(main=whole))[0][0])
        else:
            target = self.keep((where, 'truth'), lambda: self.truth(x, levels))
        return at(pair.main, main) - target, self.denoised(guide, x, levels) - target

    def keep(self, key, make):
        """What make() gave for this key the first time."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def truth(self, x, levels):
        """D*(x; σ), as `denoised`."""
        run = self.compiled('truth', fields.by_level(fields.exact(self.classes)))
        return np.asarray(run(split(x), levels))

    def denoised(self, call, x, levels):
        """D(x; σ) of a network, as an array [k, n, 2], at points x [k, n, 2] of levels [k]."""

        def run(variables, x, levels):
            return fields.by_level(bound_to([call], [variables])[0])(x, levels)

        run = self.compiled(('denoised', call.architecture()), run)
        return np.asarray(run(call.network.variables, split(x), levels))

    def outcome(self, main):
        """Paths of the main network alone, and which of its samples end as outliers."""

        def follow():
            path = self.paths(pairs.Pair(main=main), FIELD_POINTS)
            scores = PointScores(self.classes)
            # Not “below”: points that are not finite are outliers.
            return path, ~(scores.log_prob(path[-1]) >= scores.reference[0][1])

        return self.keep(('outcome', name_of(main)), follow)

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
        seeds = split(np.arange(FIRST_SEED, FIRST_SEED + count, dtype=np.uint32), axis=0)
        rules = jax.tree.map(np.float32, tuple(rules))
        return np.asarray(run([c.network.variables for c in calls], rules, seeds))

    def compiled(self, key, function):
        """The jitted function of this key, made once; weights are its arguments."""
        return self.jitted.setdefault(key, jax.jit(function))


def name_of(ref):
    """What decides the numbers of a network, hashed."""
    return files.content_hash(pairs.identity(pairs.settled(pairs.Pair(main=ref))))


def split(array, axis=1):
    """The array with its points, along this axis, split over the devices."""
    return jax.device_put(array, mesh.by_sample(mesh.dividing(array.shape[axis]), axis))


def bound_to(calls, variables):
    """(x, sigma) → x0 of every Call, with these variables and no labels."""
    none = jnp.int32(-1)
    return [bind(call.network.denoiser, v, none, call) for call, v in zip(calls, variables)]
