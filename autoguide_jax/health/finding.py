"""What a check found on one host, and what all hosts found as rows of one table."""

import collections
from typing import NamedTuple

OK, WARNING, FAULT = 'ok', 'warning', 'fault'
SAME = 'hosts must agree: the same setup and the same command on all; most have'


class Finding(NamedTuple):
    """The outcome of one check on one host.

    state: ok; warning (works, but slower or not for long); fault (does not work). found: what was
    seen, '{}' where `amount` is to stand: a number that may differ between hosts. fix: what to do.
    same: the hosts must have found the same.
    """

    check: str
    state: str
    found: str
    fix: str = ''
    amount: float | None = None
    same: bool = False

    @property
    def text(self):
        """What was found, in words."""
        return self.found if self.amount is None else self.found.replace('{}', f'{self.amount:.4g}')


def fine(check, found, **rest):
    """A Finding that is as it should be."""
    return Finding(check, OK, found, **rest)


def warning(check, found, fix, **rest):
    """A Finding that does not stop the work."""
    return Finding(check, WARNING, found, fix, **rest)


def fault(check, found, fix, **rest):
    """A Finding that stops the work."""
    return Finding(check, FAULT, found, fix, **rest)


def fold(found, names):
    """Rows {check, hosts, state, found, fix} of all hosts, one for hosts that agree.

    found: for each process its Findings; names: for each process the name of its host.
    """
    checks = dict.fromkeys(finding.check for own in found for finding in own)
    rows = []
    for check in checks:
        here = {p: f for p, own in enumerate(found) for f in own if f.check == check}
        if any(finding.same for finding in here.values()):
            here = _judged({p: here.get(p, fine(check, 'absent')) for p in range(len(found))})
        groups = collections.defaultdict(list)
        for process, finding in here.items():
            groups[finding.state, finding.found, finding.fix].append((process, finding))
        rows += [_row(check, members, names) for members in groups.values()]
    return rows


def _judged(here):
    """Findings by process that should be the same: the less common ones become faults."""
    usual = collections.Counter(finding.found for finding in here.values()).most_common(1)[0][0]
    return {
        p: f if f.found == usual else f._replace(state=FAULT, fix=f.fix or f'{SAME} {usual}')
        for p, f in here.items()
    }


def _row(check, members, names):
    process, finding = members[0]
    amounts = [f.amount for _, f in members if f.amount is not None]
    text = finding.text
    if amounts and f'{min(amounts):.4g}' != f'{max(amounts):.4g}':
        text = finding.found.replace('{}', f'{min(amounts):.4g}–{max(amounts):.4g}')
    who = ', '.join(f'{p} ({names[p]})' for p, _ in members)
    hosts = 'all' if len(members) == len(names) else who
    row = {'check': check, 'hosts': hosts, 'state': finding.state, 'found': text}
    return {**row, 'fix': finding.fix} if finding.fix else row
