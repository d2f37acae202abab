"""The encoders of sparse autoencoders as their libraries define them, in PyTorch.

Each is its class's `encode` in evaluation mode, written out from its source, and its state dict.
"""

import torch
from torch import nn


def filled(module, seed=0):
    """Give every parameter and buffer random values; biases matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point() and tensor.ndim:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
    return module.eval()


def top_k(z, k):
    found = torch.topk(z, k, dim=-1)
    return torch.zeros_like(z).scatter(-1, found.indices, found.values)


class _Matrices(nn.Module):
    def __init__(self, width, latents):
        super().__init__()
        self.W_enc, self.b_enc = (
            nn.Parameter(torch.empty(*s)) for s in ((width, latents), (latents,))
        )
        self.W_dec, self.b_dec = (
            nn.Parameter(torch.empty(*s)) for s in ((latents, width), (width,))
        )


class Saev(_Matrices):
    """saev.nn.modeling.SparseAutoencoder; its subtracting form is of the Matryoshka class."""

    def __init__(self, width, latents, kind, k=0, subtracts=False):
        super().__init__(width, latents)
        self.kind, self.k, self.subtracts = kind, k, subtracts
        if kind == "BatchTopK":
            self.activation = nn.Module()
            self.activation.register_buffer("threshold", torch.tensor(0.7))

    def encode(self, x):
        z = (x - self.b_dec if self.subtracts else x) @ self.W_enc + self.b_enc
        if self.kind == "Relu":
            return torch.relu(z)
        if self.kind == "TopK":
            return top_k(z, self.k)  # whatever their sign
        return torch.where(z > self.activation.threshold, z, torch.zeros_like(z))

    def header(self):
        params = {"key": "", "top_k": self.k} if self.k else {"key": ""}
        config = {"d_model": self.W_enc.shape[0], "d_sae": self.W_enc.shape[1]}
        config["activation"] = {"cls": self.kind, "params": params}
        return {"schema": 5, "cfg": config, "commit": "unknown", "lib": "0"}


class Prisma(_Matrices):
    """vit_prisma.sae.SparseAutoencoder, encode_standard with layer_norm."""

    def __init__(self, width, latents, k=0):
        super().__init__(width, latents)
        self.k = k

    def encode(self, x):
        x = x - x.mean(dim=-1, keepdim=True)
        x = x / (x.std(dim=-1, keepdim=True) + 1e-5)
        z = (x - self.b_dec) @ self.W_enc + self.b_enc
        return top_k(z, self.k).relu() if self.k else z.relu()


class SAELens(_Matrices):
    """sae_lens's StandardSAE, TopKSAE and JumpReLUSAE."""

    def __init__(self, width, latents, subtracts, kind="standard", k=0):
        super().__init__(width, latents)
        self.subtracts, self.kind, self.k = subtracts, kind, k
        if kind == "jumprelu":
            self.threshold = nn.Parameter(torch.empty(latents))

    def encode(self, x):
        z = (x - self.b_dec if self.subtracts else x) @ self.W_enc + self.b_enc
        if self.kind == "topk":
            return top_k(z, self.k).relu()
        return z.relu() * (z > self.threshold) if self.kind == "jumprelu" else z.relu()


class DictionaryLearning(nn.Module):
    """dictionary_learning's AutoEncoder, AutoEncoderTopK and BatchTopKSAE."""

    def __init__(self, width, latents, kind, k=0):
        super().__init__()
        self.kind = kind
        self.encoder = nn.Linear(width, latents)
        self.decoder = nn.Linear(latents, width, bias=False)
        name = "bias" if kind == "AutoEncoder" else "b_dec"
        self.register_parameter(name, nn.Parameter(torch.zeros(width)))
        if kind != "AutoEncoder":
            self.register_buffer("k", torch.tensor(k, dtype=torch.int))
            self.register_buffer("threshold", torch.tensor(0.3))

    def encode(self, x):
        centre = self.bias if self.kind == "AutoEncoder" else self.b_dec
        z = self.encoder(x - centre).relu()
        if self.kind == "AutoEncoderTopK":
            return top_k(z, int(self.k))
        return z if self.kind == "AutoEncoder" else z * (z > self.threshold)


class Overcomplete(nn.Module):
    """overcomplete's TopKSAE with its linear encoder, or with one block of BatchNorm."""

    def __init__(self, width, latents, k, normalised=False):
        super().__init__()
        self.k, self.encoder, self.dictionary = k, nn.Module(), nn.Module()
        layers = [nn.Linear(width, latents)] + ([nn.BatchNorm1d(latents)] if normalised else [])
        self.encoder.final_block = nn.Sequential(*layers)
        self.dictionary._weights = nn.Parameter(torch.empty(latents, width))
        self.dictionary.register_buffer("multiplier", torch.tensor(0.2))

    def encode(self, x):
        return top_k(self.encoder.final_block(x).relu(), self.k)
