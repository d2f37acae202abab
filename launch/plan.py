"""`jaxdesc plan` in a checkout: python -m launch.plan."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("plan")
