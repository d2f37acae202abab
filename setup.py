"""Puts configs/ into the package, which pyproject.toml can't say."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jaxdesc*"]), "jaxdesc.configs"],
    package_dir={"jaxdesc.configs": "configs"},
)
