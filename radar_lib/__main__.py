"""`python -m radar_lib` is the `radar` command."""

import sys

from radar_lib.chain.cli import main

sys.exit(main())
