"""`jaxdesc tables` in a checkout: python -m launch.tables."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("tables")
