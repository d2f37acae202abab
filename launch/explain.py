"""`jaxdesc explain` in a checkout: python -m launch.explain."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("explain")
