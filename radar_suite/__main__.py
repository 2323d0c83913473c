"""`python -m radar_suite` is the `radar` command."""

import sys

from radar_suite.chain.cli import main

sys.exit(main())
