"""launch/watch.sh with a world in which each look sees what the test says, and nothing waits."""

import subprocess

import pytest
from tpu_cloud import LAUNCH

# `see` are the states of the two workers at each look; after the last of them the slice is idle.
WORLD = """
set -u
poll=60 max_failures=3 then_delete={then_delete}
job=(python -m x)
say() {{ printf '%s\\n' "$*"; }}
errors() {{ echo /dev/null; }}
sleep() {{ echo "sleep $1"; }}
setup() {{ echo setup; }}
create() {{ echo create; }}
resume() {{ echo resume; }}
stop() {{ echo stop; }}
look() {{ sed -n "$(wc -l <"$looked")p" "$seen_file"; }}
slice_state() {{
  echo x >>"$looked"
  if [ -e "$gone" ]; then echo NONE; else echo ACTIVE; fi
}}
workers() {{
  local state
  for state in $(look); do
    printf '@worker\\tw\\t%s\\t%s\\tnow\\tpython -m x\\n' "${{state%:*}}" "${{state#*:}}"
  done
}}
deletes=0
delete() {{ deletes=$((deletes + 1)); echo delete; {delete} }}
. {script}
watch a
"""
RUN, KILLED, DONE, PASSES = 'running:-', 'ended:137', 'ended:0', 'ended:75'


@pytest.fixture
def watch(tmp_path):
    """watch(looks, …) → (exit code, what it said). looks: states of the workers at each look."""

    def run(looks, then_delete='', delete='return 0;'):
        (tmp_path / 'seen').write_text('\n'.join(looks) + '\n')
        (tmp_path / 'looked').touch()
        script = WORLD.format(then_delete=then_delete, delete=delete, script=LAUNCH / 'watch.sh')
        files = {name: str(tmp_path / name) for name in ('looked', 'gone')}
        env = {'PATH': '/usr/bin:/bin', 'seen_file': str(tmp_path / 'seen'), **files}
        done = subprocess.run(
            ['bash', '-c', script], env=env, text=True, capture_output=True, timeout=60
        )
        assert not done.stderr
        return done.returncode, done.stdout

    return run


def test_a_delete_that_fails_is_tried_again(watch):
    code, said = watch([RUN, DONE], 'true', '[ "$deletes" = 3 ];')
    assert code == 0 and said.count('delete\n') == 3 and 'create' not in said
    assert 'failure 2 of at most 3; again in 60 s' in said


def test_a_delete_that_never_works_is_a_failure_that_still_costs(watch):
    code, said = watch([RUN, DONE], 'true', 'return 1;')
    assert code == 1 and 'gave up after 3 failures' in said and 'still costs' in said


def test_a_delete_whose_answer_was_lost_is_done(watch):
    code, said = watch([RUN, DONE], 'true', 'touch "$gone"; return 1;')
    assert code == 0 and said.count('delete\n') == 1 and 'create' not in said


def test_the_command_may_be_killed_often_if_it_was_seen_running_between(watch):
    code, said = watch([RUN, KILLED] * 25 + [RUN, DONE])
    assert code == 0 and said.count('resume\n') == 25


def test_a_command_that_never_comes_to_run_ends_the_watch(watch):
    code, said = watch([RUN, *[KILLED] * 20])
    assert code == 1 and said.count('resume\n') == 10
    assert 'ended 10 times in a row' in said and 'still costs' in said


@pytest.mark.parametrize('others', [PASSES, RUN, DONE])
def test_what_passes_by_itself_is_started_again(watch, others):
    code, said = watch([RUN, f'{PASSES} {others}', RUN, DONE])
    assert code == 0 and said.count('resume\n') == 1 and 'mended' not in said


@pytest.mark.parametrize('others', [PASSES, RUN, DONE, KILLED])
def test_what_must_be_mended_ends_the_watch_also_beside_what_passes(watch, others):
    code, said = watch([RUN, f'{others} ended:2'])
    assert code == 2 and 'ended 2: to be mended' in said and said.endswith('stop\n')
