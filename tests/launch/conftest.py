"""Commands as they run from a shell, but in this process."""

import pytest

from jaxdesc.commands import cli


@pytest.fixture
def command(capsys):
    """Run a command, its flags as a dict and others as they come: (exit code, stdout, stderr)."""

    def run(name, flags, *arguments):
        given = [f"--{key}={value}" for key, value in flags.items() if value is not None]
        with pytest.raises(SystemExit) as ended:
            cli.main([name, *given, *arguments])
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    return run
