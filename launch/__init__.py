"""The commands of `jaxdesc.commands.cli` as scripts of a checkout, which need no installation."""
