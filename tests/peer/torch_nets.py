"""The networks of src/models in PyTorch, with the same parameter names. resnet18 and resnet50 are torchvision's own.
Every ReLU and max-pool is a module, so that hooks see what goes into it."""
import torch.nn as nn
from torchvision.models import resnet18, resnet50
from torchvision.models.resnet import BasicBlock


def conv(cin, cout, r, stride=1, bias=False):
    return nn.Conv2d(cin, cout, r, stride, r // 2, bias=bias)


def he_init(net):
    """torchvision's initialisation of ResNets: He normal, fan-out."""
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode='fan_out', nonlinearity='relu')
    return net


class SmallResNet(nn.Module):
    """CIFAR ResNet of 6n + 2 layers: 16, 32, 64 channels, projection shortcuts with batch-norm."""

    def __init__(self, n, classes):
        super().__init__()
        self.conv1, self.bn1, self.relu = conv(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU()
        cin = 16
        for s, width in enumerate((16, 32, 64)):
            blocks = []
            for b in range(n):
                stride = 2 if s > 0 and b == 0 else 1
                shape_changes = stride != 1 or cin != width
                down = nn.Sequential(conv(cin, width, 1, stride), nn.BatchNorm2d(width)) if shape_changes else None
                blocks.append(BasicBlock(cin, width, stride, down))
                cin = width
            setattr(self, f'layer{s + 1}', nn.Sequential(*blocks))
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class PreBottleneck(nn.Module):
    """ResNet-164's block: the stride is in the first 1x1, the third convolution has a bias, the shortcut reads the raw input."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        m = cout // 4
        if cin != cout:
            self.downsample = nn.Sequential(conv(cin, cout, 1, stride))
        self.bn1, self.conv1 = nn.BatchNorm2d(cin), conv(cin, m, 1, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(m), conv(m, m, 3)
        self.bn3, self.conv3 = nn.BatchNorm2d(m), conv(m, cout, 1, bias=True)
        self.relu = nn.ReLU()

    def forward(self, x):
        short = self.downsample(x) if hasattr(self, 'downsample') else x
        y = self.conv1(self.relu(self.bn1(x)))
        y = self.conv2(self.relu(self.bn2(y)))
        return self.conv3(self.relu(self.bn3(y))) + short


class ResNet164(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1 = conv(3, 16, 3)
        cin = 16
        for s, width in enumerate((64, 128, 256)):
            blocks = [PreBottleneck(cin if b == 0 else width, width, 2 if s > 0 and b == 0 else 1) for b in range(18)]
            setattr(self, f'layer{s + 1}', nn.Sequential(*blocks))
            cin = width
        self.bn1, self.relu, self.fc = nn.BatchNorm2d(256), nn.ReLU(), nn.Linear(256, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.fc(self.relu(self.bn1(x)).mean((2, 3)))


class WideBlock(nn.Module):
    """The shortcut convolution, where there is one, reads the activated map."""

    def __init__(self, cin, cout, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(cin), conv(cin, cout, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(cout), conv(cout, cout, 3)
        self.relu = nn.ReLU()
        if cin != cout or stride != 1:
            self.convShortcut = conv(cin, cout, 1, stride)

    def forward(self, x):
        a = self.relu(self.bn1(x))
        y = self.conv2(self.relu(self.bn2(self.conv1(a))))
        return y + (self.convShortcut(a) if hasattr(self, 'convShortcut') else x)


class Stage(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.layer = nn.Sequential(*blocks)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, depth, k, classes):
        super().__init__()
        self.conv1 = conv(3, 16, 3)
        cin = 16
        for s in range(3):
            width = 16 * k << s
            blocks = [WideBlock(cin if b == 0 else width, width, 2 if s > 0 and b == 0 else 1) for b in range((depth - 4) // 6)]
            setattr(self, f'block{s + 1}', Stage(blocks))
            cin = width
        self.bn1, self.relu, self.fc = nn.BatchNorm2d(cin), nn.ReLU(), nn.Linear(cin, classes)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.relu(self.bn1(x)).mean((2, 3)))


def build(name, form, classes):
    """A float32 network, initialised from PyTorch's generator."""
    if name in ('resnet18', 'resnet50'):
        net = {'resnet18': resnet18, 'resnet50': resnet50}[name](num_classes=classes)
        if form == 'cifar':
            net.conv1, net.maxpool = conv(3, 64, 3), nn.Identity()
        return he_init(net)
    if name.startswith('wrn-'):
        depth, k = map(int, name.split('-')[1:])
        return he_init(WideResNet(depth, k, classes))
    if name == 'resnet164':
        return he_init(ResNet164(classes))
    return he_init(SmallResNet((int(name[len('resnet'):]) - 2) // 6, classes))
