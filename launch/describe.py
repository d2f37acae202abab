"""`jaxdesc describe` in a checkout: python -m launch.describe."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("describe")
