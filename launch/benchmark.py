"""`jaxdesc benchmark` in a checkout: python -m launch.benchmark."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("benchmark")
