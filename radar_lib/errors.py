"""The one exception that users meet: a message that says what is wrong, where, and what to do."""


class RadarError(Exception):
    """Bad input or a bad environment; the message names the place and the remedy, and fits on one screen."""
