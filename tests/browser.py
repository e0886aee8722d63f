"""Drives a page in chromium, if the machine has it: real clicks, real layout, no server."""

import html
import json
import re
import shutil
import subprocess

import pytest

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
FLAGS = '--headless --no-sandbox --disable-gpu --disable-background-networking --hide-scrollbars'


def drive(page, script, folder, hash=''):
    """What the script returns (JSON) after the page has run; script: the body of a function.

    page: the text of the page. Skips the test without a chromium.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip('no chromium on this machine')
    told = (
        "<script>addEventListener('load', () => { const out = document.createElement('pre');"
        "out.id = 'told'; let found; try { found = (() => {" + script + '})(); }'
        'catch (error) { found = String(error); } out.textContent = JSON.stringify(found);'
        'document.body.append(out); });</script></body>'
    )
    file = folder / 'driven.html'
    file.write_text(page.replace('</body>', told))
    profile = f'--user-data-dir={folder / "profile"}'
    command = [program, *FLAGS.split(), profile, '--virtual-time-budget=4000', '--dump-dom']
    done = subprocess.run(
        [*command, f'file://{file}{hash}'], capture_output=True, text=True, timeout=60
    )
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
    assert found, f'chromium told nothing: {done.stderr[-500:]}'
    return json.loads(html.unescape(found[1]))
