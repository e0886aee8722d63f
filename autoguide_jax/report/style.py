"""How the report looks: one palette for page and figures, in a light and a dark scheme.

Arm colours follow Okabe and Ito, which the colour-blind can tell apart; each arm also has a marker
of its own, so that nothing rests on colour alone.
"""

from typing import NamedTuple

from autoguide_jax.report import script

MARKERS = 'sDo^vPX<>ph8'
# Baseline, CFG and autoguidance have fixed colours; further arms take the rest in order.
FIXED = {'baseline': ('#4b5563', '#b3bcc9'), 'cfg': ('#d55e00', '#f58a3c')}
FIXED['autoguidance'] = ('#0072b2', '#45aef0')
FURTHER = (
    ('#d99000', '#f0b840'),
    ('#4fa9dc', '#9ad7f7'),
    ('#009e73', '#35c79e'),
    ('#8a8a12', '#c6c552'),
    ('#c2649c', '#e598c6'),
    ('#7a4fa3', '#b292dc'),
    ('#8c5a3c', '#c99a7c'),
)
# Lines of charts that are no arms, in order.
SERIES = (FIXED['autoguidance'], FIXED['cfg'], *FURTHER[2:], *FURTHER[:2])


class Look(NamedTuple):
    """Colours of one scheme; low and high are the ends of the heat map (best and worst)."""

    name: str
    paper: str
    ink: str
    muted: str
    line: str
    low: str
    high: str


LIGHT = Look('light', '#ffffff', '#1b2330', '#667085', '#e3e7ed', '#0a5a94', '#f1f6fb')
DARK = Look('dark', '#12161d', '#e8ecf2', '#98a2b3', '#2b323d', '#5cbcff', '#19222e')


def colours(study, look):
    """Return arm → colour."""
    dark = look.name == 'dark'
    found = {study.role(role): pair[dark] for role, pair in FIXED.items()}
    rest = [arm for arm in study.arms if arm not in found]
    return found | {arm: FURTHER[i % len(FURTHER)][dark] for i, arm in enumerate(rest)}


def markers(study):
    """Return arm → marker."""
    known = [study.role(role) for role in FIXED]
    order = [arm for arm in known if arm] + [arm for arm in study.arms if arm not in known]
    return {arm: MARKERS[i % len(MARKERS)] for i, arm in enumerate(order)}


def run_colours(study, look):
    """Return training run → colour: that of the arm which it is the main or the guide of."""
    by_arm, found = colours(study, look), {}
    for arm, about in study.arms.items():
        guides = [about[who] for who in ('guide', 'uncond') if about.get(who)]
        for run in guides or [about.get('main')]:
            found.setdefault(run, by_arm[arm])
    spare = (pair[look.name == 'dark'] for pair in FURTHER[::-1] * len(study.runs))
    return {run: found.get(run) or next(spare) for run in study.runs}


def rc(look):
    """Return the matplotlib settings of a figure."""
    return {
        'figure.facecolor': look.paper,
        'savefig.facecolor': look.paper,
        'axes.facecolor': look.paper,
        'axes.edgecolor': look.line,
        'axes.labelcolor': look.muted,
        'axes.titlecolor': look.ink,
        'axes.titlesize': 9,
        'axes.titleweight': 'bold',
        'axes.titlelocation': 'left',
        'axes.titlepad': 8,
        'axes.labelsize': 8.5,
        'axes.linewidth': 0.8,
        'axes.grid': True,
        'axes.axisbelow': True,
        'axes.spines.top': False,
        'axes.spines.right': False,
        'grid.color': look.line,
        'grid.linewidth': 0.6,
        'xtick.color': look.line,
        'ytick.color': look.line,
        'xtick.labelcolor': look.muted,
        'ytick.labelcolor': look.muted,
        'xtick.labelsize': 8,
        'ytick.labelsize': 8,
        'xtick.major.size': 3,
        'ytick.major.size': 0,
        'xtick.minor.size': 0,
        'ytick.minor.size': 0,
        'text.color': look.ink,
        'font.family': 'sans-serif',
        'font.size': 8.5,
        'legend.frameon': False,
        'legend.fontsize': 8,
        'lines.linewidth': 1.8,
        'lines.solid_capstyle': 'round',
        'text.parse_math': False,
        'svg.hashsalt': 'autoguide_jax',
        'svg.fonttype': 'path',
    }


def _variables(look):
    names = ('paper', 'ink', 'muted', 'line', 'low', 'high')
    series = ''.join(f'--s{i}:{pair[look is DARK]};' for i, pair in enumerate(SERIES))
    return ''.join(f'--{name}:{getattr(look, name)};' for name in names) + series


def css(study):
    """Return the style sheet of the page, with a colour --c0, --c1, … for each arm, if any."""

    def scheme(look, panel, tint, edge):
        in_order = _in_order(study, look) if study else ()
        arms = ''.join(f'--c{i}:{c};' for i, c in enumerate(in_order))
        return f'{_variables(look)}--panel:{panel};--tint:{tint};--edge:{edge};{arms}'

    light, dark = (
        scheme(LIGHT, '#f6f8fa', '#dceefa', '#a9d2ee'),
        scheme(DARK, '#1a2029', '#173a55', '#2d648c'),
    )
    return (
        f':root{{color-scheme:light dark;{light}}}\n'
        f'@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n'
        # Paper is white whatever the screen is.
        f'@media print{{:root{{color-scheme:light;{light}}}}}\n{RULES}{script.text_of("page.css")}'
    )


def _in_order(study, look):
    by_arm = colours(study, look)
    return [by_arm[arm] for arm in study.arms]


RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);line-height:1.6;font-size:16px;
 font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:56px 20px 96px}
h1{font-size:clamp(1.7rem,4.5vw,2.6rem);line-height:1.15;letter-spacing:-.02em;margin:.2em 0 .5em;
 max-width:22em;text-wrap:balance}
h2{font-size:1.35rem;letter-spacing:-.01em;line-height:1.3;margin:72px 0 8px}
h3{font-size:1rem;margin:36px 0 4px}
p,ul,dl{max-width:44em}
p{margin:.6em 0}
a{color:inherit}
.kicker,.note,figcaption{color:var(--muted);font-size:.875rem}
.kicker{margin:0}
p.note,figcaption{max-width:54em}
.lede{font-size:1.15rem;line-height:1.55}
.notice{border-left:3px solid var(--muted);background:var(--panel);padding:12px 18px;margin:28px 0;
 max-width:none;border-radius:0 8px 8px 0}
.notice ul{margin:.3em 0;padding-left:1.2em}
nav{font-size:.875rem;margin:28px 0 0;display:flex;flex-wrap:wrap;gap:4px 18px}
nav a{color:var(--muted);text-decoration:none;border-bottom:1px solid var(--line)}
.hero{margin:36px 0 12px;display:grid;gap:22px}
.hero-row{display:grid;grid-template-columns:200px 1fr;gap:24px;align-items:center}
.hero-row .who{font-weight:600;line-height:1.3}
.hero-row .num{font-size:1.5rem;font-weight:650;letter-spacing:-.01em;line-height:1.3}
.hero-row .num small{font-size:.9rem;font-weight:400;color:var(--muted)}
.dot{display:inline-block;width:.62em;height:.62em;border-radius:50%;margin-right:.5em}
.strip{display:block;width:100%;height:auto}
.heads{display:grid;font-size:.72rem;color:var(--muted);text-align:center;line-height:1.6}
.scroll{overflow-x:auto;margin:20px -20px 8px;padding:0 20px;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:9px 7px;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line);
 vertical-align:top}
thead th{color:var(--muted);font-weight:500;font-size:.89em;vertical-align:bottom;line-height:1.35;
 white-space:normal; border-bottom-color:var(--muted)}
th:first-child,td.text{text-align:left}
tbody th{font-weight:600;white-space:normal;min-width:180px;max-width:230px;line-height:1.35}
tbody th small{display:block;font-weight:400;color:var(--muted);font-size:.89em;margin-top:2px}
tr.group th{color:var(--muted);font-weight:500;font-size:.89em;padding-top:22px;max-width:none}
tr.real td,tr.real th{color:var(--muted)}
td small{color:var(--muted);font-weight:400}
td.two small{display:block;font-size:.86em;line-height:1.3}
td.open{color:var(--muted)}
td.best{background:var(--tint);font-weight:700}
td.tie{box-shadow:inset 0 0 0 1.5px var(--edge)}
.key b,.key i{display:inline-block;font-style:normal;padding:0 7px;margin-right:4px}
.key b{background:var(--tint)}
.key i{box-shadow:inset 0 0 0 1.5px var(--edge);margin-left:10px}
svg.range{width:96px;height:20px;display:block}
figure{margin:24px 0 0}
figcaption{max-width:50em;margin-top:10px}
figure img{display:block;width:100%;height:auto}
.wide{overflow-x:auto}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:8px 32px;align-items:start}
.grids{display:grid;grid-template-columns:repeat(3,1fr);gap:28px 26px;margin-top:24px}
.grids .who{font-size:.875rem;font-weight:600;line-height:1.3;min-height:2.6em;display:flex;
 align-items:flex-end;margin-bottom:4px}
.grids .who span{flex:1}
pre{background:var(--panel);padding:14px 16px;border-radius:8px;overflow-x:auto;font-size:.8rem;
 line-height:1.5;font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.9em}
details{border-bottom:1px solid var(--line);padding:9px 0}
summary{cursor:pointer;font-size:.92rem}
dl.facts{display:grid;grid-template-columns:max-content 1fr;gap:5px 24px;font-size:.9rem;
 max-width:none}
dl.facts dt{color:var(--muted)}
dl.facts dd{margin:0;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
li{margin:.4em 0}
@media (max-width:720px){
 main{padding-top:32px}
 h2{margin-top:56px}
 .hero-row{grid-template-columns:1fr;gap:8px}
 .pair{grid-template-columns:1fr}
 .grids{grid-template-columns:1fr 1fr;gap:24px 16px}
 .wide img{width:820px;max-width:none}
 .wide{margin-left:-20px;margin-right:-20px;padding:0 20px}
 tbody th{min-width:150px;max-width:170px}
 dl.facts{grid-template-columns:1fr}
 dl.facts dd{margin-bottom:6px}
}
@media print{
 body{font-size:10pt}
 main{max-width:none;padding:0}
 nav{display:none}
 h2{margin-top:28px;break-after:avoid}
 figure,tr,.scroll,.hero,.notice,.grids>div{break-inside:avoid}
 .scroll,.wide{overflow:visible;margin:12px 0;padding:0}
 table{font-size:7pt}
 th,td{padding:4px 4px}
 tbody th{min-width:0}
 svg.range{width:80px}
 pre{white-space:pre-wrap}
}
@page{margin:14mm}
"""
