"""`jaxdesc report` in a checkout: python -m launch.report."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("report")
