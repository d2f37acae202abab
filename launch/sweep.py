"""`jaxdesc sweep` in a checkout: python -m launch.sweep."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("sweep")
