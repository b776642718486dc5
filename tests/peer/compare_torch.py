#!/usr/bin/python3
"""One training step of every network against PyTorch, from several sets of weights.

Needs PyTorch and torchvision (Debian: python3-torch, python3-torchvision); without them exit status 77.
    compare_torch.py [--builddir DIR] [--models NAME,...] [--sets NAME,...] [--batches full,calm] [--verbose]

The same float32 weights, images and labels go to tests/peer/step_dump (float), to tests/peer/step_dump_f64 (the same
sources in double) and to PyTorch in float64 and in float32. PyTorch in float64 is the reference; the error of a tensor is
|ours - reference| / |reference| in the L2 norm, and of several tensors the worst counts. Bounds:

    double   1e-9 for everything
    float    loss 1e-5; logits of the loaded weights in evaluation mode 1e-4; gradients and updated weights 3 times the
             worst error of PyTorch's own float32; running statistics the same, or 1e-6

In float32 a value near zero may land on the other side of a ReLU. One such flip moves a gradient by 1e-3, rounding alone by
1e-6, and which values flip is chance: PyTorch's own error goes from 3e-6 to 1e-2 when the same step is laid out in another
order in memory. Hence two kinds of batches:

    full     the sizes that are trained; PyTorch's error is its worst over all sets of weights and four ways to compute the
             step: NCHW or NHWC, maps as they are or transposed
    calm     a small batch that, of many, keeps farthest from every ReLU's kink and every tie of a max-pool: nothing flips,
             and each row is held against PyTorch's one run. This is the sharp test of the float program. (The deepest
             networks amplify rounding so much that some sets of weights have no such batch; they are left out.)

A convolution's bias in front of a batch-norm (resnet164) has gradient zero but for rounding; its error is measured against
the norm of the same convolution's weight gradient instead.

The table has the worst tensor's error, names the tensors that are out of bounds, and with --verbose all. The exit status is
the verdict.
"""
import argparse
import collections
import copy
import os
import subprocess
import sys
import tempfile
import time

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')  # on a busy machine, spinning threads only wait for each other
try:
    import numpy as np
    import torch
    import torch.nn as nn
    import torch.nn.functional as F
    import torchvision
except ImportError as e:
    print(f'skipped: {e}')
    sys.exit(77)

sys.dont_write_bytecode = True  # the source folder stays clean
import safetensors_io  # noqa: E402
import torch_nets  # noqa: E402

SGD = {'lr': 0.1, 'momentum': 0.9, 'weight_decay': 5e-4}
ALL_ISAS = ('ref', 'base', 'avx2', 'auto')
Case = collections.namedtuple('Case', 'batch model form n size classes isas sets')
SETS = ('seed0', 'seed1', 'seed2', 'trained')
CASES = (Case('full', 'resnet20', 'cifar', 48, 32, 10, ALL_ISAS, SETS),
         Case('full', 'resnet18', 'cifar', 48, 32, 10, ('auto',), SETS),
         Case('full', 'resnet164', 'cifar', 8, 32, 10, ('auto',), SETS),
         Case('full', 'wrn-16-4', 'cifar', 8, 32, 10, ('auto',), SETS),
         Case('full', 'resnet50', 'imagenet', 4, 224, 1000, ('auto',), SETS),
         Case('calm', 'resnet20', 'cifar', 2, 32, 10, ALL_ISAS, SETS),
         Case('calm', 'resnet18', 'cifar', 2, 16, 10, ALL_ISAS, SETS),
         Case('calm', 'resnet164', 'cifar', 2, 8, 10, ALL_ISAS, ('seed0', 'seed2', 'trained')),
         Case('calm', 'wrn-16-4', 'cifar', 2, 16, 10, ALL_ISAS, SETS),
         Case('calm', 'resnet50', 'imagenet', 2, 33, 1000, ('ref', 'auto'), ('trained',)))
PARTS = ('loss', 'logits', 'gradients', 'weights', 'statistics')
DOUBLE, LOSS, LOGITS, FACTOR, STATISTICS = 1e-9, 1e-5, 1e-4, 3.0, 1e-6
ZERO = 1e-10  # below this share of its layer's weight gradient, a bias gradient is zero but for rounding
CANDIDATES = 40


# --- networks, batches and steps in PyTorch ------------------------------------------------------

def batch(case, seed):
    g = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(case.n, 3, case.size, case.size, generator=g), torch.randint(0, case.classes, (case.n,), generator=g)


class Kinks:
    """Measures how far a training forward keeps from every ReLU's kink and every tie of a max-pool."""

    def __init__(self, net):
        self.maps = []
        self.double, self.single = (copy.deepcopy(net).to(t).train() for t in (torch.float64, torch.float32))
        for m in [*self.double.modules(), *self.single.modules()]:
            if isinstance(m, (nn.ReLU, nn.MaxPool2d)):
                m.register_forward_pre_hook(lambda module, args: self.maps.append((module, args[0].double().clone())))

    def forward(self, net, images):
        self.maps = []
        with torch.no_grad():
            net(images)
        return self.maps

    @staticmethod
    def least(module, x):
        if isinstance(module, nn.ReLU):
            return x.abs().min().item()
        windows = F.pad(x, (1, 1, 1, 1), value=-1).unfold(2, 3, 2).unfold(3, 3, 2).flatten(4)
        top = windows.topk(2, dim=4).values
        return (top[..., 0] - top[..., 1])[top[..., 0] > 0].min().item()

    def distance(self, images):
        """Of the nearest value, as a multiple of the error that its map has in PyTorch's float32."""
        exact = self.forward(self.double, images.double())
        single = self.forward(self.single, images)
        return min(self.least(m, x) / (y - x).square().mean().sqrt().item() for (m, x), (_, y) in zip(exact, single))


def choose_batch(case, net, seed):
    if case.batch == 'full':
        return batch(case, seed)
    kinks = Kinks(net)
    candidates = [batch(case, CANDIDATES * seed + i) for i in range(CANDIDATES)]
    return max(candidates, key=lambda b: kinks.distance(b[0]))


def randomise_batch_norm(net):
    """Fresh batch-norm (weight 1, bias 0, mean 0, variance 1) is too special for a test."""
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0, 0.2)
            m.running_mean.normal_(0, 0.2)
            m.running_var.uniform_(0.5, 2)


def make_net(case, name):
    """A float32 network: fresh with random batch-norm, or after a few steps."""
    torch.manual_seed(SETS.index(name))
    net = torch_nets.build(case.model, case.form, case.classes)
    if name != 'trained':
        randomise_batch_norm(net)
        return net
    optimiser = torch.optim.SGD(net.parameters(), 0.02, momentum=0.9)
    for i in range(4):
        images, labels = batch(case, -1 - i)
        optimiser.zero_grad()
        F.cross_entropy(net.train()(images), labels).backward()
        optimiser.step()
    if not all(torch.isfinite(t).all() for t in net.state_dict().values()):
        raise SystemExit(f'{case.model}: training in PyTorch diverged; lower its rate')
    return net


def to_numpy(tensors):
    return {name: t.detach().numpy() for name, t in tensors if not name.endswith('num_batches_tracked')}


def parts(loss, logits, grads, state):
    """What is compared, as dictionaries of arrays."""
    running = {k: v for k, v in state.items() if k.endswith(('running_mean', 'running_var'))}
    return {'loss': {'loss': np.asarray(loss)}, 'logits': {'logits': logits}, 'gradients': grads,
            'weights': {k: v for k, v in state.items() if k not in running}, 'statistics': running}


def torch_step(net, images, labels, dtype):
    net, images = copy.deepcopy(net).to(dtype), images.to(dtype)
    with torch.no_grad():
        logits = net.eval()(images).numpy()
    optimiser = torch.optim.SGD(net.parameters(), **SGD)
    loss = F.cross_entropy(net.train()(images), labels)
    loss.backward()
    grads = to_numpy((k, p.grad) for k, p in net.named_parameters())
    optimiser.step()
    return parts(loss.item(), logits, grads, to_numpy(net.state_dict().items()))


def transpose_filters(state):
    return {k: t.transpose(-2, -1).contiguous() if t.ndim == 4 else t for k, t in state.items()}


def torch_step_in_another_order(net, images, labels, transposed, layout):
    """The same step in float32, with its sums in another order."""
    net = copy.deepcopy(net)
    if transposed:
        net.load_state_dict(transpose_filters(net.state_dict()))
        images = images.transpose(2, 3).contiguous()
    found = torch_step(net.to(memory_format=layout), images.contiguous(memory_format=layout), labels, torch.float32)
    if transposed:
        for part in ('gradients', 'weights'):
            found[part] = {k: a.swapaxes(-2, -1) if a.ndim == 4 else a for k, a in found[part].items()}
    return found


def torch_float_errors(case, net, images, labels, reference):
    """Of PyTorch's float32: every tensor's error in the plain step, and each part's worst over several ways to compute it."""
    first = torch_step(net, images, labels, torch.float32)
    errs = {part: errors(first, reference, part) for part in PARTS}
    highest = {part: worst(errs[part])[0] for part in PARTS}
    if case.batch == 'full':
        for way in ((False, torch.channels_last), (True, torch.contiguous_format), (True, torch.channels_last)):
            again = torch_step_in_another_order(net, images, labels, *way)
            for part in ('gradients', 'weights'):  # the statistics keep to NCHW, where PyTorch's are ten times better
                highest[part] = max(highest[part], worst(errors(again, reference, part))[0])
    return errs, highest


# --- our step ------------------------------------------------------------------------------------

def our_step(program, case, folder, isa):
    """None where this processor or build does not have the ISA."""
    args = [program, case.model, case.form, str(case.classes), f'{folder}/weights.safetensors', f'{folder}/input.safetensors',
            folder, isa] + [repr(SGD[k]) for k in ('lr', 'momentum', 'weight_decay')]
    status = subprocess.run(args).returncode
    if status == 77:
        return None
    if status != 0:
        raise SystemExit(f'{" ".join(args)}: exit status {status}')
    step = safetensors_io.read(f'{folder}/step.safetensors')
    state = safetensors_io.read(f'{folder}/updated.safetensors')
    tracked = [state.pop(k) for k in list(state) if k.endswith('num_batches_tracked')]
    if any(t != 1 for t in tracked):
        raise SystemExit(f'{case.model}: num_batches_tracked is not 1 after one step')
    grads = {k[len('grad.'):]: v for k, v in step.items() if k.startswith('grad.')}
    return parts(step['loss'], step['logits'], grads, state)


# --- comparison ----------------------------------------------------------------------------------

def norm(a):
    return float(np.linalg.norm(np.asarray(a, np.float64).ravel()))


def scale(name, reference, part):
    """What an error is measured against."""
    own = norm(reference[name])
    if part == 'gradients' and name.endswith('.bias'):
        layer = norm(reference[name[:-len('bias')] + 'weight'])
        if own < ZERO * layer:
            return layer
    return own


def errors(found, reference, part):
    if found[part].keys() != reference[part].keys():
        raise SystemExit(f'{part}: other names than PyTorch: {sorted(found[part].keys() ^ reference[part].keys())[:8]}')
    out = {}
    for name, want in reference[part].items():
        got = found[part][name]
        if got.shape != want.shape:
            raise SystemExit(f'{part}: {name} is {got.shape}, PyTorch has {want.shape}')
        e = norm(got.astype(np.float64) - want) / scale(name, reference[part], part)
        out[name] = e if np.isfinite(e) else float('inf')
    return out


def worst(errs):
    name = max(errs, key=errs.get)
    return errs[name], name


def check_the_checker(found, reference):
    """A gradient that is off by 2e-9 must be noticed."""
    name = min(reference['gradients'], key=lambda k: scale(k, reference['gradients'], 'gradients'))
    wrong = {**found, 'gradients': dict(found['gradients'])}
    wrong['gradients'][name] = reference['gradients'][name].copy()
    wrong['gradients'][name].flat[0] += 2 * DOUBLE * scale(name, reference['gradients'], 'gradients')
    if worst(errors(wrong, reference, 'gradients'))[0] <= DOUBLE:
        raise SystemExit('a wrong gradient was not noticed: this script is broken')


Row = collections.namedtuple('Row', 'set program part errs torch_errs torch_highest')


def compare(programs, case, name):
    """One set of weights: rows for the table."""
    net = make_net(case, name)
    images, labels = choose_batch(case, net, SETS.index(name))
    reference = torch_step(net, images, labels, torch.float64)
    torch_errs, torch_highest = torch_float_errors(case, net, images, labels, reference)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        safetensors_io.write(f'{folder}/weights.safetensors', to_numpy(net.state_dict().items()))
        safetensors_io.write(f'{folder}/input.safetensors', {'images': images.numpy(), 'labels': labels.numpy()})
        for program, isa in [('double', 'ref')] + [('float', isa) for isa in case.isas]:
            found = our_step(programs[program], case, folder, isa)
            if found is None:
                continue
            if program == 'double':
                check_the_checker(found, reference)
            title = program if program == 'double' else f'float {isa}'
            rows += [Row(name, title, part, errors(found, reference, part), torch_errs[part], torch_highest[part])
                     for part in PARTS]
    return rows


def bound(case, row, rows):
    if row.program == 'double':
        return DOUBLE
    if row.part in ('loss', 'logits'):
        return {'loss': LOSS, 'logits': LOGITS}[row.part]
    highest = row.torch_highest if case.batch == 'calm' else max(r.torch_highest for r in rows if r.part == row.part)
    return max(FACTOR * highest, STATISTICS if row.part == 'statistics' else 0)


def print_line(case, name, program, cells, note=''):
    print(f'{case.batch:<5} {case.model:<9} {name:<7} {program:<10} {"  ".join(cells)}{note}', flush=True)


def print_rows(case, rows, verbose):
    """A line for each set of weights and program. Returns how many cells failed."""
    failed = 0
    for i in range(0, len(rows), len(PARTS)):
        line, cells, notes = rows[i:i + len(PARTS)], [], []
        if i == 0 or line[0].set != rows[i - 1].set:
            print_line(case, line[0].set, 'torch32', [f'{worst(row.torch_errs)[0]:<15.1e}' for row in line])
        for row in line:
            (error, tensor), limit = worst(row.errs), bound(case, row, rows)
            cells.append(f'{error:.1e}/{limit:.1e}')
            if not error <= limit:
                notes.append(f'  FAILED: {tensor}')
        print_line(case, line[0].set, line[0].program, cells, ''.join(notes))
        failed += len(notes)
        if verbose:
            for row in line:
                for name, e in row.errs.items():
                    print(f'    {row.part:<10} {name:<44} {e:8.1e}  torch32 {row.torch_errs[name]:8.1e}')
    return failed


def choice(ap, text, valid):
    names = text.split(',')
    for name in names:
        if name not in valid:
            ap.error(f'unknown: {name}; valid: {", ".join(valid)}')
    return names


def main():
    models, batches = sorted({c.model for c in CASES}), ('full', 'calm')
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('--builddir', default='.')
    ap.add_argument('--models', default=','.join(models))
    ap.add_argument('--sets', default=','.join(SETS))
    ap.add_argument('--batches', default=','.join(batches))
    ap.add_argument('--verbose', action='store_true', help='the error of every tensor')
    a = ap.parse_args()
    models, sets = choice(ap, a.models, models), choice(ap, a.sets, SETS)
    batches = choice(ap, a.batches, batches)
    programs = {'float': os.path.join(a.builddir, 'tests/peer/step_dump'),
                'double': os.path.join(a.builddir, 'tests/peer/step_dump_f64')}
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    print(f'{"batch":<5} {"model":<9} {"weights":<7} {"program":<10} {"  ".join(f"{part:<15}" for part in PARTS)}'
          '(error/bound; torch32: error)', flush=True)
    start, failed, count = time.monotonic(), 0, 0
    for case in CASES:
        if case.model in models and case.batch in batches:
            rows = [row for name in case.sets if name in sets for row in compare(programs, case, name)]
            failed, count = failed + print_rows(case, rows, a.verbose), count + len(rows)
    print(f'{failed} of {count} figures are out of bounds; torch {torch.__version__}, torchvision {torchvision.__version__}; '
          f'{time.monotonic() - start:.0f} s')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
