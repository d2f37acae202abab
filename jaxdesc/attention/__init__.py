"""Attention maps of a network, and the contribution of each neuron to a logit."""

from jaxdesc.attention.cams import CAMS, Cam, attention_maps

__all__ = ["CAMS", "Cam", "attention_maps"]
