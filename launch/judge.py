"""`jaxdesc judge` in a checkout: python -m launch.judge."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("judge")
