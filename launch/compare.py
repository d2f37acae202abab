"""`jaxdesc compare` in a checkout: python -m launch.compare."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("compare")
