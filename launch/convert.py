"""`jaxdesc convert` in a checkout: python -m launch.convert."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("convert")
