#!/usr/bin/python3
"""Writes the *.golden files beside this script: two training steps of small networks, computed by PyTorch in float64.

    make_golden.py [OUT_DIR]

Needs PyTorch and torchvision (Debian: python3-torch, python3-torchvision); README.md says what the files hold.
"""
import math
import os
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True  # the source folder stays clean
sys.path.insert(0, os.path.join(HERE, '../../peer'))
import torch_nets  # noqa: E402

LABELS, DIRECTIONS, IMAGES = 1000, 2000, 3000  # streams; parameter i has stream i, its direction DIRECTIONS + i
STEPS, CANDIDATES = 2, 60


def uniform(stream, shape):
    """Multiples of 2^-23 in [-1/2, 1/2): bits 41..63 of SplitMix64's output at state stream * 2^32 + index."""
    z = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(stream << 32) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return torch.from_numpy((z >> np.uint64(41)).astype(np.float64) * 2.0**-23 - 0.5).reshape(shape)


class GroupBatchNorm(nn.BatchNorm2d):
    """Groups of `group` consecutive samples normalise alone; the running statistics move once, with the mean of the groups'
    means and unbiased variances."""
    group = 0

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        groups = x.split(self.group or len(x))
        with torch.no_grad():
            mean = torch.stack([p.mean((0, 2, 3)) for p in groups]).mean(0)
            var = torch.stack([p.var((0, 2, 3), unbiased=True) for p in groups]).mean(0)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var, self.momentum)
        return torch.cat([F.batch_norm(p, None, None, self.weight, self.bias, True, 0, self.eps) for p in groups])


class Layers(nn.Module):
    """Every kind of layer that the CIFAR networks do not have: 7x7 stem, both poolings, bottleneck, convolution with bias."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), GroupBatchNorm(8)
        self.maxpool, self.relu = nn.MaxPool2d(3, 2, 1), nn.ReLU()
        self.down, self.bnd = nn.Conv2d(8, 16, 1, 2, bias=False), GroupBatchNorm(16)
        self.conv2, self.bn2 = nn.Conv2d(8, 4, 1, bias=False), GroupBatchNorm(4)
        self.conv3, self.bn3 = nn.Conv2d(4, 4, 3, 2, 1, bias=False), GroupBatchNorm(4)
        self.conv4, self.bn4 = nn.Conv2d(4, 16, 1, bias=False), GroupBatchNorm(16)
        self.conv5 = nn.Conv2d(16, 12, 3, 1, 1, bias=True)
        self.avgpool1 = nn.AvgPool2d(2, 1, 1)
        self.fc = nn.Linear(12, classes)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        y = self.relu(self.bn2(self.conv2(x)))
        y = self.relu(self.bn3(self.conv3(y)))
        x = self.relu(self.bn4(self.conv4(y)) + self.bnd(self.down(x)))
        x = self.avgpool1(self.relu(self.conv5(x)))
        return self.fc(x.mean((2, 3)))


def scale(name, t):
    """(offset, exponent): the initial value is offset + 2^exponent * uniform. Powers of two near the usual initialisation."""
    if t.dim() == 4:  # He normal, fan-out; a uniform number of width 1 has deviation 0.289
        return 0, round(math.log2(math.sqrt(2 / (t.shape[0] * t.shape[2] * t.shape[3])) / 0.289))
    if t.dim() == 2:
        return 0, round(math.log2(2 / math.sqrt(t.shape[1])))
    is_one = name.endswith('running_var') or name.endswith('.weight')
    return (1, 0) if is_one else (0, -1)


def checksums(t, stream):
    v = uniform(stream, t.shape)
    return f'{t.norm().item()!r} {(t * v).sum().item()!r}'


def watch(net, least):
    """Appends to `least` how near each map comes to a ReLU's kink or to a tie of a max-pool, relative to the map's size."""
    def look(module, args):
        x = args[0].detach()
        lead = x.abs()
        if isinstance(module, nn.MaxPool2d):
            top = F.pad(x, (1, 1, 1, 1), value=-1).unfold(2, 3, 2).unfold(3, 3, 2).flatten(4).topk(2, dim=4).values
            lead = (top[..., 0] - top[..., 1])[top[..., 0] > 0]
        least.append((lead.min() / x.square().mean().sqrt()).item())
    for m in net.modules():
        if isinstance(m, (nn.ReLU, nn.MaxPool2d)):
            m.register_forward_pre_hook(look)


def make(model, classes, bn_group):
    """The network with its initial values, and the lines that describe them."""
    net = (Layers(classes) if model == 'layers' else torch_nets.build(model, 'cifar', classes)).double()
    lines = []
    for i, (k, t) in enumerate(tensors(net).items()):
        offset, exponent = scale(k, t)
        t.copy_(offset + 2.0**exponent * uniform(i, t.shape))
        lines.append(f'param {i} {k} {offset} {exponent}')
    for m in net.modules():
        if isinstance(m, GroupBatchNorm):
            m.group = bn_group
    return net, lines


def tensors(net):
    return {k: t for k, t in net.state_dict().items() if not k.endswith('num_batches_tracked')}


def steps(case, stream):
    """The file's lines with images from this stream, and how far the steps keep from every kink."""
    model, shape, classes, lr, momentum, weight_decay, nesterov, smoothing, bn_group = case
    net, params = make(model, classes, bn_group)
    lines = [f'model {model}', f'images {" ".join(map(str, shape))} {stream}', f'classes {classes}',
             f'sgd {lr} {momentum} {weight_decay} {nesterov:d}', f'smoothing {smoothing}', f'bn_group {bn_group}', *params]
    images = 4 * uniform(stream, shape)
    labels = ((uniform(LABELS, shape[:1]) + 0.5) * classes).long()
    state, trainable, least = tensors(net), dict(net.named_parameters()), []
    with torch.no_grad():
        lines.append(f'logits {checksums(net.eval()(images), DIRECTIONS + len(state))}')
    optimiser = torch.optim.SGD(net.parameters(), lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    watch(net.train(), least)
    for step in range(STEPS):
        loss = F.cross_entropy(net(images), labels, label_smoothing=smoothing)
        optimiser.zero_grad()
        loss.backward()
        lines.append(f'loss {step} {loss.item()!r}')
        lines += [f'grad {step} {i} {checksums(trainable[k].grad, DIRECTIONS + i)}' for i, k in enumerate(state) if k in trainable]
        optimiser.step()
        lines += [f'state {step} {i} {checksums(t.detach(), DIRECTIONS + i)}' for i, t in enumerate(state.values())]
    return min(least), lines


def golden(name, *case):
    """Of many batches, the one that keeps farthest from every kink: the float library's signs are then the same."""
    margin, lines = max(steps(case, IMAGES + i) for i in range(CANDIDATES))
    out = sys.argv[1] if len(sys.argv) > 1 else HERE
    with open(os.path.join(out, f'{name}.golden'), 'w') as f:
        f.write('\n'.join(lines) + '\n')
    print(f'{name}: nothing is nearer to a kink than {margin:.1e} of its map')


golden('resnet20', 'resnet20', (4, 3, 16, 16), 10, 0.1, 0.9, 5e-4, False, 0.0, 0)
golden('wrn', 'wrn-10-1', (3, 3, 16, 12), 7, 0.05, 0.9, 1e-3, True, 0.1, 0)
golden('layers', 'layers', (4, 3, 23, 19), 5, 0.1, 0.9, 5e-4, False, 0.1, 0)
golden('groups', 'layers', (5, 3, 23, 19), 5, 0.1, 0.0, 0.0, False, 0.0, 2)
