"""Exit codes of the `radar` command, and the errors that carry them.

A script that calls `radar` can tell "the notebook is wrong" from "the machine is wrong" by the code alone.
"""

from radar_lib.errors import RadarError
from radar_lib.files import is_disk_trouble

OK = 0
FAILURE = 1  # a notebook raised, or its kernel died; `radar verify` found a difference
USAGE = 2  # unknown or ill-typed parameter, unknown profile or notebook, bad posts or checkpoint; argparse's own code
TIMEOUT = 3  # a notebook passed its time limit
ENVIRONMENT = 4  # a missing package or kernel, a full or read-only disk, another chain at work
INTERRUPTED = 130  # Ctrl-C (128 + SIGINT)
TERMINATED = 143  # 128 + SIGTERM

EXIT_CODES = """\
exit codes:
  0    done, or everything was up to date
  1    a notebook failed (the screen ends with the command that resumes)
  2    bad usage: unknown or ill-typed parameter, unknown profile or notebook, bad posts, bad checkpoint
  3    a notebook passed its time limit
  4    environment: missing package or kernel, full or read-only disk, another chain at work
  130  stopped by Ctrl-C; 143 stopped by SIGTERM. Finished notebooks are kept
"""


class UsageError(RadarError):
    """The command, a profile or a notebook's declarations are wrong; nothing was started. Exit code 2."""


class SetupError(RadarError):
    """The machine or the installation is not ready: kernel, disk, lock, package. Exit code 4."""


class Interrupted(BaseException):
    """SIGTERM or SIGHUP arrived; unwinds like KeyboardInterrupt so that every `finally` runs."""


def code_of(error: BaseException) -> int:
    """Exit code of an error that ended a command."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, Interrupted):
        return TERMINATED
    return ENVIRONMENT if isinstance(error, SetupError) or is_disk_trouble(str(error)) else USAGE
