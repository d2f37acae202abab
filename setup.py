"""Packages of the wheel: configs/ becomes jaxdesc.configs, which pyproject.toml can't express."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jaxdesc*"]), "jaxdesc.configs"],
    package_dir={"jaxdesc.configs": "configs"},
)
