"""`jaxdesc benchmark` in a checkout: python -m launch.benchmark."""

from jaxdesc import cli

if __name__ == "__main__":
    cli.launch("benchmark")
