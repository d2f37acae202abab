"""Oracle of a ViT's attention maps: a plain forward pass in float64, numeric gradients.

`weights` are those of transformers' `ViTForImageClassification`, by their names. Pixels are
[H, W, 3], class c is a row of the classifier, and token 0 is the class token.
"""

import math

import numpy as np


class ViT:
    """A ViT of float64 matrices."""

    def __init__(self, weights, heads, patch, eps=1e-12):
        self.weights = {name.removeprefix("vit."): w.astype(float) for name, w in weights.items()}
        self.heads, self.patch, self.eps = heads, patch, eps
        blocks = (n.split(".")[1] for n in self.weights if n.startswith("layers."))
        self.depth = 1 + max(map(int, blocks))

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x, name):
        mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
        normed = (x - mean) / np.sqrt(variance + self.eps)
        return normed * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def embed(self, pixels):
        kernel = self.weights["embeddings.patch_embeddings.projection.weight"]  # [D, 3, p, p]
        bias = self.weights["embeddings.patch_embeddings.projection.bias"]
        rows, columns = (side // self.patch for side in pixels.shape[:2])
        tokens = [self.weights["embeddings.cls_token"][0, 0]]
        for y, x in np.ndindex(rows, columns):
            p = self.patch
            patch = pixels[y * p : (y + 1) * p, x * p : (x + 1) * p].transpose(2, 0, 1)
            tokens.append((kernel * patch).sum(axis=(1, 2, 3)) + bias)
        return np.array(tokens) + self.weights["embeddings.position_embeddings"][0]

    def probs(self, x, block):
        """Attention probabilities [head, query, key] of a block, of the tokens before it."""
        normed = self.norm(x, f"layers.{block}.layernorm_before")
        query, key = (self.split(normed, block, kind) for kind in ("q", "k"))
        found = np.zeros((self.heads, len(x), len(x)))
        for head, i in np.ndindex(self.heads, len(x)):
            products = key[head] @ query[head, i] / math.sqrt(query.shape[-1])
            found[head, i] = np.exp(products - products.max())
            found[head, i] /= found[head, i].sum()
        return found

    def split(self, normed, block, kind):
        x = self.linear(normed, f"layers.{block}.attention.{kind}_proj")
        return x.reshape(len(x), self.heads, -1).transpose(1, 0, 2)

    def after(self, x, block, probs):
        """Tokens after a block whose attention has these probabilities."""
        name = f"layers.{block}"
        value = self.split(self.norm(x, f"{name}.layernorm_before"), block, "v")
        mixed = (probs @ value).transpose(1, 0, 2).reshape(len(x), -1)
        x = x + self.linear(mixed, f"{name}.attention.o_proj")
        hidden = self.linear(self.norm(x, f"{name}.layernorm_after"), f"{name}.mlp.fc1")
        hidden *= (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
        return x + self.linear(hidden, f"{name}.mlp.fc2")

    def before(self, pixels, block):
        """Tokens before a block."""
        x = self.embed(pixels.astype(float))
        for earlier in range(block):
            x = self.after(x, earlier, self.probs(x, earlier))
        return x

    def head(self, token):
        return self.linear(self.norm(token, "layernorm"), "classifier")


def class_attention(vit, pixels):
    """mean_h A_L[h, class token, patch] of the last block L (Caron et al. 2021, section 4.2)."""
    probs = vit.probs(vit.before(pixels, vit.depth - 1), vit.depth - 1)
    return square(sum(probs[head, 0, 1:] for head in range(vit.heads)) / vit.heads)


def legrad(vit, pixels, class_, blocks=2, step=1e-5):
    """Bousselham et al., ICCV 2025, with the last two blocks, as their code has it.

    s_l = W_c · norm(mean of all tokens after block l), E_l[k] = mean over heads h and all queries q
    of relu(∂s_l/∂A_l[h, q, k]), and the map is the mean over blocks of E_l at the patches.
    """
    total = 0
    for block in range(vit.depth - blocks, vit.depth):
        x = vit.before(pixels, block)
        probs = vit.probs(x, block)

        def score(probs, x=x, block=block):
            return vit.head(vit.after(x, block, probs).mean(axis=0))[class_]

        gradient = np.zeros(probs.shape)
        for place in np.ndindex(*probs.shape):
            above, below = probs.copy(), probs.copy()
            above[place] += step
            below[place] -= step
            gradient[place] = (score(above) - score(below)) / (2 * step)
        total = total + np.maximum(gradient, 0).mean(axis=(0, 1))[1:] / blocks
    return square(total)


def square(patches):
    side = math.isqrt(len(patches))
    return np.reshape(patches, (side, side))
