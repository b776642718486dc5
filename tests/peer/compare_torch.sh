#!/bin/sh
# One training step against PyTorch: compare_torch.py with this build's programs. Extra arguments are
# handed on (compare_torch.sh --help). Skipped (77) where PyTorch or torchvision is missing.
: "${top_srcdir:=.}" "${top_builddir:=.}"
python=${PYTHON3:-/usr/bin/python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "skipped: no $python"
    exit 77
fi
exec "$python" "$top_srcdir/tests/peer/compare_torch.py" --builddir "$top_builddir" "$@"
