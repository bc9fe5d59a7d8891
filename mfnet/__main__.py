"""``python -m mfnet`` is the command ``mfnet``."""

import sys

from mfnet.cli import main

sys.exit(main())
