"""The TPU VM's commands as they are printed, and as they run: with a gcloud that plays its part.

Nothing here reaches Google Cloud. The stand-in notes its arguments, and runs what `ssh` is given in
a home folder for each of two hosts, so that quoting is tested down to launch.describe's arguments.
"""

import os
import re
import shlex
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
SUDO = """#!/bin/bash
echo "sudo $*" >> ~/asked
"""
PYTHON3 = """#!/bin/bash
echo "python3 $*" >> ~/asked
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
    folder, programs = tmp_path / "play", tmp_path / "programs"
    for host in "01":
        (folder / host).mkdir(parents=True)
    programs.mkdir()
    contents = {
        programs / "gcloud": GCLOUD,
        programs / "sudo": SUDO,
        programs / "python3": PYTHON3,
        folder / "python": PYTHON,
    }
    for path, content in contents.items():
        path.write_text(content)
        path.chmod(0o755)
    (folder / "code").write_text("0")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("PLAY", str(folder))
    return folder


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
    return subprocess.Popen(
        [root / "launch" / "tpu_vm.sh", *words],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(root, *words):
    process = started(root, *words)
    output, error = process.communicate(timeout=60)
    return process.returncode, output, error


def dry(root, *words):
    code, output, error = run(root, *words)
    assert (code, error) == (0, "")
    return output.splitlines()


def calls(play):
    """Arguments of gcloud's calls."""
    lines = (play / "gcloud").read_text().split("\n\0")
    return [line.split("\0")[:-1] for line in lines[:-1]]


ONE = ("--type=v5litepod-8", "--version=v2-alpha-tpuv5-lite", "--spot")
POD = ("--type=v4-32", "--version=tpu-ubuntu2204-base", "--project=my-project")


def test_create_and_delete(play):
    root = SCRIPT.parents[1]
    assert run(root, "create", *WHERE, *ONE) == (0, "", "")
    assert run(root, "create", *WHERE, *POD) == (0, "", "")
    assert run(root, "delete", *WHERE, "--project=my-project") == (0, "", "")
    assert [" ".join(words) for words in calls(play)] == [
        "compute tpus tpu-vm create my-tpu --accelerator-type=v5litepod-8 "
        "--version=v2-alpha-tpuv5-lite --spot --zone=us-central1-a",
        "compute tpus tpu-vm create my-tpu --accelerator-type=v4-32 "
        "--version=tpu-ubuntu2204-base --zone=us-central1-a --project=my-project",
        "compute tpus tpu-vm delete my-tpu --zone=us-central1-a --project=my-project",
    ]


def test_what_is_printed_is_what_runs(checkout, play):
    options = (*WHERE, "--workdir=gs://my-bucket/a 'b'; touch owned", "--", *HOSTILE)
    printed = dry(checkout, "run", "--dry_run", *options)
    assert len(printed) == 2
    for line in printed:
        subprocess.run(["bash", "-n", "-c", line], check=True)
    for host in "01":
        place = play / host / "jaxdesc"
        (place / ".venv" / "bin").mkdir(parents=True)
        shutil.copy(play / "python", place / ".venv" / "bin")
    subprocess.run(["bash", "-e", "-c", "\n".join(printed)], check=True, timeout=60)
    pasted = calls(play)
    (play / "gcloud").unlink()
    assert run(checkout, "run", *options)[0] == 0
    assert calls(play) == pasted
    assert shlex.split(printed[0])[1:7] == pasted[0][:6]
    dry(checkout, "install", *WHERE, "--dry_run")
    assert not (checkout / "out").exists()
    assert calls(play) == pasted
    assert not list(play.rglob("owned"))


def test_installed_and_run_every_argument_arrives_on_every_host(checkout, play):
    (checkout / "uncommitted").write_text("")
    code, _, error = run(checkout, "install", *WHERE)
    assert code == 0
    assert error == "Only committed files are installed; this checkout has other changes.\n"
    code, output, error = run(checkout, "run", *WHERE, "--workdir=gs://bucket/r", "--", *HOSTILE)
    assert (code, output, error) == (0, "describing on 0\nexit code 0\n", "")
    for host in "01":
        home = play / host
        assert (home / "jaxdesc" / "launch" / "tpu_vm.sh").read_text() == SCRIPT.read_text()
        assert not (home / "jaxdesc" / "uncommitted").exists()
        assert (home / "asked").read_text().splitlines() == [
            "sudo apt-get -qq -o DPkg::Lock::Timeout=300 update",
            "sudo apt-get -qq -o DPkg::Lock::Timeout=300 install -y wordnet-base",
            "python3 -m pip install --quiet --user uv",
            "python3 -m uv venv --quiet --allow-existing --seed --python=3.11 .venv",
            "python -m pip install --quiet -c constraints.txt -e .[tpu]",
        ]
        argv = (home / "argv").read_text().split("\0")[:-1]
        options = ["-m", "launch.describe", "--coordinator=auto", "--workdir=gs://bucket/r"]
        assert argv == [*options, *HOSTILE]
    assert not list(play.rglob("owned"))


def test_a_run_outlives_the_connection_and_is_found_again(checkout, play):
    assert run(checkout, "install", *WHERE)[0] == 0
    (play / "wait").touch()
    (play / "code").write_text("143")
    options = (*WHERE, "--workdir=gs://bucket/r", "--", "--config=c.py")
    first = started(checkout, "run", *options)
    assert first.stdout.readline() == "describing on 0\n"
    pids = [int((play / host / "jaxdesc" / "run.pid").read_text()) for host in "01"]
    for pid in pids:
        os.kill(pid, signal.SIGHUP)
    code, output, error = run(checkout, "run", *options)
    assert code == 2
    assert output == ""
    assert error == "A run is at work here: follow it, or wait until it has ended.\n" * 2
    again = started(checkout, "follow", *WHERE)
    assert again.stdout.readline() == "describing on 0\n"
    (play / "wait").unlink()
    for process in (first, again):
        assert process.communicate(timeout=60)[0] == "exit code 143\n"
        assert process.returncode == 143
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.05)
    (play / "code").write_text("0")
    assert run(checkout, "run", *options)[0] == 0
    (play / "0" / "jaxdesc" / "run.log").write_text("describing on 0\n")  # killed: no exit code
    assert run(checkout, "follow", *WHERE)[:2] == (1, "describing on 0\n")


def test_results_and_the_logs_of_all_hosts_are_fetched(checkout, play, tmp_path):
    for host in "01":
        (play / host / "jaxdesc").mkdir()
        (play / host / "jaxdesc" / "run.log").write_text(f"line of {host}\n")
    output = tmp_path / "my out" / "run"
    words = (f"--output={output}", "--workdir=gs://my-bucket/run")
    assert run(checkout, "fetch", *WHERE, *words) == (0, "", "")
    name = os.uname().nodename
    assert (output / "run.log").read_text() == f"{name}: line of 0\n{name}: line of 1\n"
    rsync = calls(play)[0]
    assert rsync[:3] == ["storage", "rsync", "--recursive"]
    assert rsync[4:] == ["gs://my-bucket/run", str(output)]
    left_out = re.compile(rsync[3].removeprefix("--exclude="))  # gcloud matches from the start
    names = ("concepts.csv", "tables/table1.md", "artifacts.txt", "artifacts/a/0", "lock")
    assert [bool(left_out.match(name)) for name in names] == [False, False, False, True, False]


def test_a_failure_of_gcloud_ends_the_command(checkout, play):
    assert run(checkout, "follow", *WHERE)[0] == 1  # nothing was run there
    (play / "1").rmdir()
    assert run(checkout, "install", *WHERE)[0] != 0
    assert len(calls(play)) == 2


EXPECTED = "expected create, install, run, follow, fetch or delete.\n"
RUN = ("run", *WHERE, "--workdir=gs://my-bucket/run")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), f"no command was given: {EXPECTED}"),
        (("rm -rf /",), f"unknown command 'rm -rf /': {EXPECTED}"),
        (
            ("delete", "--zone=us-central1-a"),
            "--name is missing: delete needs it, such as --name=my-tpu.\n",
        ),
        (
            ("delete", "--name=a b; rm -rf ~", "--zone=us-central1-a"),
            "--name='a b; rm -rf ~' can't be right: expected something like my-tpu.\n",
        ),
        (
            ("delete", "--name=-q", "--zone=us-central1-a"),
            "--name=-q can't be right: expected something like my-tpu.\n",
        ),
        (
            ("delete", "--name=a\nb", "--zone=us-central1-a"),
            "--name=$'a\\nb' can't be right: expected something like my-tpu.\n",
        ),
        (
            ("create", *WHERE, "--type=v5", "--version=v2-alpha-tpuv5-lite"),
            "--type=v5 can't be right: expected something like v5litepod-8.\n",
        ),
        (
            ("run", *WHERE, "--workdir=out/run", "--", "--config=c.py"),
            "--workdir=out/run can't be right: expected something like gs://my-bucket/run.\n",
        ),
        (
            RUN,
            "run needs arguments of launch.describe after --, such as -- "
            "--config=configs/resnet50_imagenet.py.\n",
        ),
        (
            (*RUN, "--config=c.py"),
            "--config=c.py is not an option of this script: give options as --name=value, and "
            "arguments of launch.describe after --.\n",
        ),
        (("install", *WHERE, "--spot"), "--spot means nothing to install: leave it out.\n"),
        (("delete", *WHERE, "--", "now"), "now means nothing to delete: leave it out.\n"),
    ],
)
def test_what_is_wrong_is_one_sentence(words, message, play):
    assert run(SCRIPT.parents[1], *words) == (2, "", f"error: {message}")
    assert not (play / "gcloud").exists()


def test_without_gcloud_there_is_a_sentence(tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "dirname"):
        (programs / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(programs))
    assert run(SCRIPT.parents[1], "delete", *WHERE) == (
        2,
        "",
        "error: gcloud can't be found: install Google Cloud's command line, or add --dry_run.\n",
    )
