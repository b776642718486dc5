"""safetensors files with NumPy alone: 8-byte header length, JSON header, little-endian data."""
import json
import struct

import numpy as np

TYPES = {'F32': np.dtype('<f4'), 'F64': np.dtype('<f8'), 'I64': np.dtype('<i8')}
NAMES = {dtype: name for name, dtype in TYPES.items()}


def write(path, tensors):
    arrays = {name: np.ascontiguousarray(a).astype(a.dtype.newbyteorder('<'), copy=False).reshape(a.shape)
              for name, a in tensors.items()}
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)  # each tensor aligned to its elements
    header, offset = {}, 0
    for name in order:
        a = arrays[name]
        header[name] = {'dtype': NAMES[a.dtype], 'shape': list(a.shape), 'data_offsets': [offset, offset + a.nbytes]}
        offset += a.nbytes
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for name in order:
            f.write(arrays[name].tobytes())


def read(path):
    with open(path, 'rb') as f:
        (n,) = struct.unpack('<Q', f.read(8))
        header, data = json.loads(f.read(n)), f.read()
    header.pop('__metadata__', None)
    return {name: np.frombuffer(data[slice(*e['data_offsets'])], TYPES[e['dtype']]).reshape(e['shape'])
            for name, e in header.items()}
