"""The TPU VM's commands as they are printed, and as they run: with a stand-in gcloud.

Nothing here reaches Google Cloud. The stand-in notes its arguments, and runs what `ssh` is given in
a home folder for each of two hosts, so that quoting is tested down to launch.describe's arguments.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "launch" / "tpu_vm.sh"
WHERE = ("--name=my-tpu", "--zone=us-central1-a")
HOSTILE = (
    "--config=my configs/x.py",
    "--config.vocabulary.template=A 'photo' of a {concept}; touch \"$HOME/owned\"",
    "--config.images.source=folder:/data/$(touch owned)`touch owned`&& touch owned",
    "--config.target.source=back\\slash * ? ~ #é\ttab\nline",
    "",
)

# A host has a home folder; `ssh` runs a command there, as gcloud does on all of them at once.
GCLOUD = """#!/bin/bash
set -euo pipefail
printf '%s\\0' "$@" $'\\n' >> "$PLAY/gcloud"
hosts=(0 1); command=
for word; do case $word in --worker=0) hosts=(0) ;; --command=*) command=${word#*=} ;; esac; done
case "$*" in
  *' tpu-vm scp '*) for host in "${hosts[@]}"; do cp "$5" "$PLAY/$host/"; done ;;
  *' tpu-vm ssh '*) code=0; for host in "${hosts[@]}"; do
      (cd "$PLAY/$host" && HOME=$PWD exec bash -c "$command") || code=$?; done; exit $code ;;
esac
"""
ASKED = """#!/bin/bash
echo "$(basename "$0") $*" >> ~/asked
case "$*" in *venv*) mkdir -p .venv/bin; cp "$PLAY/python" .venv/bin/python ;; esac
"""
PYTHON = """#!/bin/bash
case $2 in pip) echo "python $*" >> ~/asked; exit ;; esac
printf '%s\\0' "$@" > ~/argv
echo "describing on $(basename ~)"
while [ -e "$PLAY/wait" ]; do sleep 0.05; done
exit "$(cat "$PLAY/code")"
"""


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Two hosts, and a gcloud, sudo and python3 that stand in for theirs."""
    for folder in ("0", "1", "programs"):
        (tmp_path / folder).mkdir()
    stand_ins = {"gcloud": GCLOUD, "sudo": ASKED, "python3": ASKED, "../python": PYTHON}
    for name, content in stand_ins.items():
        path = tmp_path / "programs" / name
        path.write_text(content)
        path.chmod(0o755)
    (tmp_path / "code").write_text("0")
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:{os.environ['PATH']}")
    monkeypatch.setenv("PLAY", str(tmp_path))
    return tmp_path


@pytest.fixture
def checkout(tmp_path):
    """A repository with the script, its path as awkward as paths are."""
    root = tmp_path / "check out"
    (root / "launch").mkdir(parents=True)
    shutil.copy(SCRIPT, root / "launch")
    (root / ".gitignore").write_text("out/\n")
    for words in ("init -q", "add .", "-c user.name=a -c user.email=b commit -q -m first"):
        subprocess.run(["git", "-C", root, *words.split()], check=True)
    return root


def started(root, *words):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([root / "launch" / "tpu_vm.sh", *words], text=True, **pipes)


def run(root, *words):
    process = started(root, *words)
    output, error = process.communicate(timeout=60)
    return process.returncode, output, error


def calls(play):
    """Arguments of gcloud's calls."""
    lines = (play / "gcloud").read_text().split("\n\0")
    return [line.split("\0")[:-1] for line in lines[:-1]]


def pids(play):
    return [int((play / host / "jaxdesc" / "run.pid").read_text()) for host in "01"]


def test_create_and_delete(play):
    root, project = SCRIPT.parents[1], "--project=my-project"
    spot = ("--type=v5litepod-8", "--version=v2-alpha-tpuv5-lite", "--spot")
    assert run(root, "create", *WHERE, *spot) == (0, "", "")
    assert run(root, "delete", *WHERE, project) == (0, "", "")
    assert [" ".join(words) for words in calls(play)] == [
        "compute tpus tpu-vm create my-tpu --accelerator-type=v5litepod-8 "
        "--version=v2-alpha-tpuv5-lite --spot --zone=us-central1-a",
        "compute tpus tpu-vm delete my-tpu --zone=us-central1-a --project=my-project",
    ]


def test_every_argument_arrives_on_every_host_as_it_is_printed(checkout, play):
    (checkout / "uncommitted").write_text("")
    code, _, error = run(checkout, "install", *WHERE)
    assert code == 0
    assert error == "Only committed files are installed; this checkout has other changes.\n"
    for host in "01":
        home = play / host
        assert (home / "jaxdesc" / "launch" / "tpu_vm.sh").read_text() == SCRIPT.read_text()
        assert not (home / "jaxdesc" / "uncommitted").exists()
        asked = (home / "asked").read_text().splitlines()
        assert [line.split()[0] for line in asked] == ["sudo"] * 2 + ["python3"] * 2 + ["python"]
        assert asked[-1].endswith(" install --quiet -c constraints.txt -e .[tpu]")
    (play / "gcloud").unlink()
    options = (*WHERE, "--workdir=gs://my-bucket/a 'b'; touch owned", "--", *HOSTILE)
    code, printed, error = run(checkout, "run", "--dry_run", *options)
    assert (code, error, (play / "gcloud").exists()) == (0, "", False)
    subprocess.run(["bash", "-e", "-c", printed], check=True, timeout=60)
    pasted = calls(play)
    assert len(pasted) == len(printed.splitlines()) == 2
    (play / "gcloud").unlink()
    while any(Path(f"/proc/{pid}").exists() for pid in pids(play)):
        time.sleep(0.05)
    assert run(checkout, "run", *options) == (0, "describing on 0\nexit code 0\n", "")
    assert calls(play) == pasted
    for host in "01":
        argv = (play / host / "argv").read_text().split("\0")[:-1]
        assert argv == ["-m", "launch.describe", "--coordinator=auto", options[2], *HOSTILE]
    assert not list(play.rglob("owned"))


def test_a_run_outlives_the_connection_and_is_found_again(checkout, play):
    assert run(checkout, "install", *WHERE)[0] == 0
    (play / "wait").touch()
    (play / "code").write_text("143")
    options = (*WHERE, "--workdir=gs://bucket/r", "--", "--config=c.py")
    first = started(checkout, "run", *options)
    assert first.stdout.readline() == "describing on 0\n"
    for pid in pids(play):
        os.kill(pid, signal.SIGHUP)
    busy = "A run is at work here: follow it, or wait until it has ended.\n"
    assert run(checkout, "run", *options) == (2, "", busy * 2)
    again = started(checkout, "follow", *WHERE)
    assert again.stdout.readline() == "describing on 0\n"
    (play / "wait").unlink()
    for process in (first, again):
        assert process.communicate(timeout=60)[0] == "exit code 143\n"
        assert process.returncode == 143
    (play / "0" / "jaxdesc" / "run.log").write_text("describing on 0\n")  # killed: no exit code
    assert run(checkout, "follow", *WHERE)[:2] == (1, "describing on 0\n")


def test_results_and_the_logs_of_all_hosts_are_fetched(checkout, play, tmp_path):
    assert run(checkout, "follow", *WHERE)[0] == 1  # nothing was run there
    (play / "gcloud").unlink()
    for host in "01":
        (play / host / "jaxdesc").mkdir()
        (play / host / "jaxdesc" / "run.log").write_text(f"line of {host}\n")
    output = tmp_path / "my out" / "run"
    words = (f"--output={output}", "--workdir=gs://my-bucket/run")
    assert run(checkout, "fetch", *WHERE, *words) == (0, "", "")
    name = os.uname().nodename
    assert (output / "run.log").read_text() == f"{name}: line of 0\n{name}: line of 1\n"
    *start, exclude, source, target = calls(play)[0]
    assert (start, source) == (["storage", "rsync", "--recursive"], "gs://my-bucket/run")
    assert target == str(output)
    left_out = re.compile(exclude.removeprefix("--exclude="))  # gcloud matches from the start
    names = ("concepts.csv", "tables/table1.md", "artifacts.txt", "artifacts/a/0", "lock")
    assert [bool(left_out.match(name)) for name in names] == [False, False, False, True, False]


RUN = ("run", *WHERE, "--workdir=gs://my-bucket/run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("rm -rf /",), "unknown command 'rm -rf /': expected create, install, run, follow, fetch "
         "or delete."),
        (("delete", *WHERE[1:]), "--name is missing: delete needs it, such as --name=my-tpu."),
        (("delete", *WHERE[1:], "--name=a\nb; rm -rf ~"),
         "--name=$'a\\nb; rm -rf ~' can't be right: expected something like my-tpu."),
        (("run", *WHERE, "--workdir=out/run", "--", "--config=c.py"),
         "--workdir=out/run can't be right: expected something like gs://my-bucket/run."),
        (RUN, "run needs arguments of launch.describe after --, such as -- "
         "--config=configs/resnet50_imagenet.py."),
        ((*RUN, "--config=c.py"), "--config=c.py is not an option of this script: give options as "
         "--name=value, and arguments of launch.describe after --."),
        (("create", *WHERE, "--type=v5", "--version=v2-alpha-tpuv5-lite"),
         "--type=v5 can't be right: expected something like v5litepod-8."),
        (("install", *WHERE, "--spot"), "--spot means nothing to install: leave it out."),
        (("delete", *WHERE, "--", "now"), "now means nothing to delete: leave it out."),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(words, message, play):
    assert run(SCRIPT.parents[1], *words) == (2, "", f"error: {message}\n")
    assert not (play / "gcloud").exists()


def test_without_gcloud_there_is_a_sentence(tmp_path, monkeypatch):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = "gcloud can't be found: install Google Cloud's command line, or add --dry_run."
    assert run(SCRIPT.parents[1], "delete", *WHERE) == (2, "", f"error: {missing}\n")
