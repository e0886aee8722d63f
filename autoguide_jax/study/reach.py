"""Whether the runs of a study will keep snapshots from which its networks can be made.

Known before anything is trained: which moments and EMA lengths a run keeps follows from its
settings, and what can be made of those from their profiles alone.
"""

from autoguide_jax import snapshots


def check(settings):
    """Refuse EMA lengths and moments of the search and of the map that no snapshots will give.

    Errors: one ValueError that names the first such length of every network, and what can be had.
    """
    errors = []
    for (run, nimg), stds in wanted(settings).items():
        kept = planned(settings.runs[run])
        try:
            for std in sorted(stds):
                snapshots.assess(f'runs.{run}', std, nimg or None, among=kept)
        except ValueError as error:
            errors.append(error)
    snapshots.refuse_all(errors)


def wanted(settings):
    """{(run, nimg): EMA lengths} of the networks that a study may ask for; nimg 0 = the last."""
    found, extra = {}, settings.extra
    for name, arm in settings.arms.items():
        axes = settings.search.space(arm).axes
        mapped = extra.heatmap_stds if name == extra.heatmap_arm else ()
        guide = axes.get('guide_std', axes['main_std'])
        networks = (arm.main, 0, axes['main_std']), (arm.guide, arm.guide_nimg, guide)
        for run, nimg, stds in (*networks, (arm.uncond, 0, guide)):
            if run:
                found.setdefault((run, nimg), set()).update(stds, mapped)
    return found


def planned(run):
    """The Snapshots that a training of these settings keeps."""
    moments = run.train.snapshots()
    at = lambda nimg, std: snapshots.Snapshot(nimg, std, '', 'float32', '')
    return [at(nimg, std) for nimg in moments for std in sorted(run.ema.stds)]
