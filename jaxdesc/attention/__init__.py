"""Where a network looks in an image, and how much each neuron adds to a logit."""

from jaxdesc.attention.cams import CAMS, Cam, attention_maps

__all__ = ["CAMS", "Cam", "attention_maps"]
