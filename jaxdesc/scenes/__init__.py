"""The embedded world: rendered scenes with known truth, and the networks trained on them.

Nothing here can be downloaded away: the renderer is seeded, the two trained networks ship with the
package in the formats real ones come in (`networks/target`: timm's `config.json` and torchvision's
tensor names; `networks/clip`: a Hugging Face CLIP folder).
"""

from pathlib import Path

NETWORKS = Path(__file__).parent / "networks"
