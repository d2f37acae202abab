"""`jaxdesc train_scenes` in a checkout: python -m launch.train_scenes."""

from jaxdesc.commands import cli

if __name__ == "__main__":
    cli.launch("train_scenes")
