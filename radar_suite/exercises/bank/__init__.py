"""The exercises by name. One module per notebook, and one for all: tasks, hints, references and typical mistakes."""

from importlib import import_module

NUMBERS = ("00", "02", "03", "04", "05", "06", "07", "08", "09", "10")  # of notebooks with a module of their own
MODULES = [import_module(f"{__name__}.{name}") for name in (*(f"notebook_{n}" for n in NUMBERS), "predictions")]
BANK = {one.name: one for module in MODULES for one in module.EXERCISES}
