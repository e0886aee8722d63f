"""Why a guide works: do its errors point along those of the main network, where it matters?"""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from autoguide_jax.report.drawing import WIDE, plain_number
from autoguide_jax.report.toy import findings
from autoguide_jax.report.toy.drawing import colour

WHERE = {
    'data': ('points of the data', 'none', (0, (4, 2))),
    'outliers': ('paths that end as outliers', 'cfg', '-'),
    'rest': ('all other paths', 'autoguidance', '-'),
}
QUANTITIES = (
    ('cosine', 'Cosine of the two errors', None),
    ('r', 'r: guide’s error ÷ main’s', None),
    ('weight', 'w* that leaves the least error', 1),
)
# attribute of Guide, title, reference line, format
BY_AGE = (
    ('cosine', 'Cosine', None),
    ('r', 'r', None),
    ('weight', 'Best w', 1),
    ('relative', 'Outliers, 1 = unguided', 1),
    ('coverage', 'Coverage', None),
)
RUNS = ('own_past', 'exact', 'truncation', 'guide')
DASHES = ('-', (0, (2.5, 1.5)), (0, (1, 1.2)))


def draw(study, look):
    """Above: one guide's errors over noise levels. Below: every guide over its age."""
    key, guides = findings.paper_guide(study), findings.guides(study)
    if key is None or not guides:
        return None
    figure = Figure(figsize=(WIDE, 6.9), layout='constrained')
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05, wspace=0.03, hspace=0.03)
    above, below = figure.subfigures(2, 1, height_ratios=[1.12, 1])
    _errors(above, study, look, key)
    _ages(below, study, look, guides)
    return figure


def _errors(part, study, look, key):
    run, nimg, std = key
    part.suptitle(
        f'Errors of one guide along the noise levels ({study.run_title(run)}, '
        f'{study.iterations(nimg):g} iterations, EMA {std:g})',
        x=0.006,
        ha='left',
        fontsize=9,
        color=look.muted,
    )
    for panel, (name, title, reference) in zip(part.subplots(1, 3), QUANTITIES):
        panel.axvspan(findings.LOW, findings.HIGH, color=look.muted, alpha=0.09, lw=0)
        if reference is not None:
            panel.axhline(reference, color=look.muted, linewidth=0.9, linestyle=(0, (4, 3)))
        for where, (label, named, dashes) in WHERE.items():
            found = findings.along(study, key, where, name)
            if found is None:
                continue
            sigma, mean, sd = found
            own = colour(named, look)
            panel.plot(sigma, mean, color=own, linestyle=dashes, label=label)
            if sd is not None:
                panel.fill_between(sigma, mean - sd, mean + sd, color=own, alpha=0.16, lw=0)
        panel.set_xscale('log')
        panel.xaxis.set_major_locator(LogLocator(subs=(1,)))
        panel.xaxis.set_major_formatter(FuncFormatter(plain_number))
        panel.set(xlabel='noise level σ', title=title)
        if name == 'r':
            panel.set_ylim(bottom=0)
    part.legend(
        *panel.get_legend_handles_labels(),
        loc='outside lower left',
        ncols=3,
        labelcolor=look.muted,
    )


def _ages(part, study, look, guides):
    part.suptitle(
        'Every guide by its age; cosine and r on the paths of outliers, mean over '
        f'σ in ({findings.LOW:g}, {findings.HIGH:g}), shaded above',
        x=0.006,
        ha='left',
        fontsize=9,
        color=look.muted,
    )
    runs = list(dict.fromkeys(g.run for g in guides))
    stds = sorted({g.std for g in guides})
    ages = sorted({study.iterations(g.nimg) for g in guides})
    for panel, (name, title, reference) in zip(part.subplots(1, len(BY_AGE)), BY_AGE):
        if reference is not None:
            panel.axhline(reference, color=look.muted, linewidth=0.9, linestyle=(0, (4, 3)))
        for i, run in enumerate(runs):
            for j, std in enumerate(stds):
                line = [g for g in guides if (g.run, g.std) == (run, std) and getattr(g, name)]
                _age_line(panel, study, line, name, colour(RUNS[i % 4], look), DASHES[j % 3])
        panel.set_xscale('log', base=2)
        # All ages are ticks, as many as there is room for are written.
        panel.xaxis.set_major_locator(FixedLocator(ages[:: -(-len(ages) // 4)]))
        panel.xaxis.set_major_formatter(FuncFormatter(plain_number))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set(xlabel='iterations', title=title)
        panel.margins(y=0.12)
    handles = [
        Line2D([], [], color=colour(RUNS[i % 4], look), label=study.run_title(run))
        for i, run in enumerate(runs)
    ]
    handles += [
        Line2D([], [], color=look.muted, linestyle=DASHES[j % 3], label=f'EMA {std:g}')
        for j, std in enumerate(stds)
    ]
    part.legend(
        handles=handles, loc='outside lower left', ncols=len(handles), labelcolor=look.muted
    )


def _age_line(panel, study, line, name, own, dashes):
    if not line:
        return
    x = [study.iterations(g.nimg) for g in line]
    values = [getattr(g, name) for g in line]
    mean = [getattr(v, 'mean', v) for v in values]
    panel.plot(x, mean, color=own, linestyle=dashes, marker='.', markersize=6, linewidth=1.5)
    spread = [getattr(v, 'sd', None) for v in values]
    if all(s is not None for s in spread):
        low, high = ([m + sign * s for m, s in zip(mean, spread)] for sign in (-1, 1))
        panel.fill_between(x, low, high, color=own, alpha=0.12, lw=0)
