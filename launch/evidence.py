"""`jaxdesc evidence` in a checkout: python -m launch.evidence."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("evidence")
