"""``python -m paste_ajp`` is ``paste-ajp``."""

import sys

from paste_ajp.cli import main

if __name__ == "__main__":
    sys.exit(main())
