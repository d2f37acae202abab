"""Commands as they run from a shell, but in this process."""

import io
from contextlib import redirect_stderr, redirect_stdout

import pytest

from jaxdesc.commands import cli


@pytest.fixture(scope="session")
def command():
    """Run a command, its flags as a dict and others as they come: (exit code, stdout, stderr)."""

    def run(name, flags, *arguments):
        given = [f"--{key}={value}" for key, value in flags.items()]
        with (
            redirect_stdout(io.StringIO()) as output,
            redirect_stderr(io.StringIO()) as error,
            pytest.raises(SystemExit) as ended,
        ):
            cli.main([name, *given, *arguments])
        return ended.value.code, output.getvalue(), error.getvalue()

    return run
