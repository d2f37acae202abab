"""The commands of `jaxdesc.cli` as scripts of a checkout, which need no installation."""
