"""`jaxdesc device_report` in a checkout: python -m launch.device_report."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("device_report")
