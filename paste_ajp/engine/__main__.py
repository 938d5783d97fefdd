"""A child of a PreforkServer, as a program: ``python .../engine/__main__.py FD``.

Started by its path, so that it works wherever the parent has found the package.
"""

import os
import sys

if __name__ == "__main__":
    # In place of this folder, which Python has put there.
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))  # noqa: PTH120 - pathlib takes 10 ms to import
    from paste_ajp.engine.child import main

    sys.exit(main(int(sys.argv[1])))
