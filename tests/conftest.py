"""For all tests: no deadline for generated examples, since a busy machine is not an error."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
